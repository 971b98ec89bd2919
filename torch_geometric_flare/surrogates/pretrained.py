"""Surrogates in folders and on the Hugging Face hub, without pickled objects.

The mixin of `huggingface_hub` writes only plain arguments. A surrogate also has
normalizers and units, so this module uses the client of `huggingface_hub`.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torch_geometric_flare
from torch_geometric_flare._arguments import expand_path
from torch_geometric_flare._extras import needs_extra
from torch_geometric_flare._files import sha256_of, write_atomic
from torch_geometric_flare.surrogates.description import (
    S,
    describe_surrogate,
    describe_trust,
    rebuild_surrogate,
)
from torch_geometric_flare.surrogates.model_card import model_card
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_FORMAT = 1
_TRUST = "trust."  # prefix of the tensors of guard and calibration
_TENSOR = "tensor"
_LARGEST_CONFIG = 2**20  # bytes; real files are far smaller


def save_pretrained(
    surrogate: NormalizedModel, folder: str | Path, metrics: Mapping[str, float] | None
) -> None:
    """Implement `Surrogate.save_pretrained`."""
    with needs_extra("hub", "Surrogate.save_pretrained"):
        import safetensors.torch

    folder = expand_path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder={str(folder)!r} is a file: name a folder")
    metrics = dict(metrics or {})
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"metrics[{name!r}] is {value!r}, expected a number")
        if not math.isfinite(value):
            raise ValueError(f"metrics[{name!r}] is {value}, expected a finite number")
    state = {
        # Copied because the format rejects tensors that share memory.
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in surrogate.state_dict().items()
    }
    trust = _take_tensors(describe_trust(surrogate), _TRUST, state)
    try:
        weights = safetensors.torch.save(state)
    except KeyError as error:
        raise ValueError(f"safetensors cannot hold tensors of {error}") from error
    config = {
        "library": "torch_geometric_flare",
        "version": torch_geometric_flare.__version__,
        "format": _FORMAT,
        "surrogate": describe_surrogate(surrogate),
        "trust": trust,
        "metrics": metrics,
        "weights": {
            "size": len(weights),
            "sha256": sha256_of(weights),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _WEIGHTS, weights)
    write_atomic(folder / _CARD, model_card(surrogate, metrics).encode())
    write_atomic(folder / _CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def push_to_hub(
    surrogate: NormalizedModel,
    repo_id: str,
    metrics: Mapping[str, float] | None,
    *,
    private: bool | None,
    token: str | None,
    revision: str | None,
    commit_message: str,
) -> str:
    """Upload the files of `save_pretrained` and return the URL of the commit."""
    with needs_extra("hub", "Surrogate.push_to_hub"):
        from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as temporary:
        save_pretrained(surrogate, temporary, metrics)
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=temporary,
            revision=revision,
            commit_message=commit_message,
        )
    return str(commit.commit_url)


def from_pretrained(
    kind: type[S],
    source: str | Path,
    model: nn.Module | None,
    device: torch.device | str,
    *,
    revision: str | None,
    token: str | None,
) -> S:
    """Implement `Surrogate.from_pretrained`."""
    with needs_extra("hub", "Surrogate.from_pretrained"):
        import safetensors.torch

    folder = expand_path(source)
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(
                f"source={str(source)!r} is a file: name the folder of "
                "save_pretrained; files of save_surrogate are for load_surrogate"
            )
        folder = _download(str(source), revision, token)
    config = _read_config(folder / _CONFIG)
    path = folder / _WEIGHTS
    content = _read_weights(path, config["weights"])
    try:
        state: dict[str, Tensor] = safetensors.torch.load(content)
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"'{path}' is not a file of safetensors: {error}") from error
    description = config["surrogate"]
    arguments = description["arguments"]
    if arguments is not None:  # JSON has no tuples
        arguments = {name: _as_tuple(value) for name, value in arguments.items()}
    described = {**description, "arguments": arguments}
    tensors = {name: state.pop(name) for name in [*state] if name.startswith(_TRUST)}
    trust = _put_tensors(config.get("trust", {}), tensors)
    return rebuild_surrogate(
        kind, folder / _CONFIG, described, state, model, device, trust
    )


def _read_config(path: Path) -> dict[str, Any]:
    """Read and validate the untrusted configuration."""
    if not path.is_file():
        raise ValueError(
            f"'{path}' is missing: this is not a folder of Surrogate.save_pretrained"
        )
    config: Any = None
    cause: Exception | None = None
    size = path.stat().st_size
    try:
        config = json.loads(path.read_bytes()) if size <= _LARGEST_CONFIG else None
    except (RecursionError, ValueError) as error:
        cause = error
    match config:
        case {"library": "torch_geometric_flare", "format": int(number)} if (
            number != _FORMAT
        ):
            raise ValueError(
                f"'{path}' has format {number}, expected {_FORMAT}: load it with the "
                f"version that wrote it, {config.get('version')!r}"
            )
        case {
            "library": "torch_geometric_flare",
            "format": int(),
            "surrogate": {"model": str(), "arguments": dict() | None},
            "weights": {"size": int(), "sha256": str()},
        }:
            return dict(config)
    raise ValueError(
        f"'{path}' is of no surrogate of torch_geometric_flare, or damaged: it must be "
        "as Surrogate.save_pretrained writes it"
    ) from cause


def _read_weights(path: Path, expected: Mapping[str, Any]) -> bytes:
    """Read the weights file and verify its size and hash."""
    if not path.is_file():
        raise ValueError(
            f"'{path}' is missing: copy or download the whole folder again"
        )
    size = path.stat().st_size
    content = path.read_bytes() if size == expected["size"] else b""
    digest = sha256_of(content)
    if size != expected["size"] or digest != expected["sha256"]:
        raise ValueError(
            f"'{path}' is damaged or not the file that {_CONFIG} is about: found "
            f"{size} bytes with SHA-256 {digest}, expected {expected['size']} with "
            f"{expected['sha256']}; copy or download the whole folder again"
        )
    return content


def _download(repo_id: str, revision: str | None, token: str | None) -> Path:
    """Download the two files to the hub's cache and return their folder."""
    with needs_extra("hub", f"{repo_id!r} is not a folder here; fetching it"):
        from huggingface_hub import hf_hub_download

    with _clear_errors(repo_id, revision):
        paths = [
            Path(hf_hub_download(repo_id, name, revision=revision, token=token))
            for name in (_CONFIG, _WEIGHTS)
        ]
    return paths[0].parent


@contextmanager
def _clear_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Convert exceptions of the hub's client to errors that say what to do."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"source={repo_id!r} is not a folder here"
    try:
        yield
    except LocalEntryNotFoundError as error:  # a subclass of EntryNotFoundError
        raise ConnectionError(f"{what}, and the hub could not be reached") from error
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise FileNotFoundError(
            f"{what}, and no repository of the hub that this token may read"
        ) from error
    except (EntryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"{what}, and the repository of that name has no {_CONFIG} with "
            f"{_WEIGHTS} at revision={revision!r}"
        ) from error


def _take_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Replace tensors in nested plain values by names, and collect the tensors."""
    if isinstance(value, Tensor):
        tensors[name] = value.contiguous()
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {k: _take_tensors(v, f"{name}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [_take_tensors(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Inverse of `_take_tensors`."""
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors.get(value[_TENSOR])
        return {name: _put_tensors(each, tensors) for name, each in value.items()}
    return (
        [_put_tensors(v, tensors) for v in value] if isinstance(value, list) else value
    )


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
