"""The command line for computing the spectra of a checkpoint."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyvista as pv
import torch
from torch import Tensor

from torch_geometric_flare import analysis, mesh_io, training
from torch_geometric_flare._arguments import check_integers, expand_path
from torch_geometric_flare.analysis import Spectrum
from torch_geometric_flare.datasets.records import write_json
from torch_geometric_flare.experiments.evaluation import TestData, parse_checkpoint
from torch_geometric_flare.experiments.options import Options
from torch_geometric_flare.surrogates import (
    QuerySurrogate,
    Surrogate,
    load_surrogate,
)
from torch_geometric_flare.visualization import plot_spectra

log = logging.getLogger(__name__)

# Arguments of the network that `analysis.spectra` also has.
_ARGUMENTS = ("x", "batch", "batch_size", "weight", "u")


@dataclass(frozen=True, kw_only=True)
class SpectrumConfig(Options):
    """Options of the spectra of a checkpoint.

    Args:
        test: The test split, if no mesh is given.
        samples: Number of samples, from the start of the test split.
        vectors: Number of eigenvectors per head to save at the points for ParaView.
        chunk_size: Number of points per chunk; by default all at once.
        folder: Output folder; by default that of the checkpoint.

    Raises:
        ValueError: If a number is not positive, or `vectors` is negative.
    """

    test: TestData = TestData()
    samples: int = 1
    vectors: int = 0
    chunk_size: int | None = None
    folder: str | None = None

    def __post_init__(self) -> None:
        check_integers(1, samples=self.samples)
        check_integers(0, vectors=self.vectors)
        if self.chunk_size is not None:
            check_integers(1, chunk_size=self.chunk_size)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A sample or a mesh: the arguments of the network, and the points."""

    name: str
    title: str
    arguments: dict[str, Any]
    pos: Tensor | None = None
    mesh: Any = None


@training.user_errors()
def spectrum_command_line(
    description: str, arguments: Sequence[str] | None = None, prog: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Compute, plot and save the spectra of a checkpoint.

    Args:
        description: Docstring of the script; `--help` shows its first line.
        arguments: The command line; that of the process by default.
        prog: Name of the command; that of the script by default.

    Returns:
        The content of `spectrum.json`: the blocks of each sample or mesh.

    Raises:
        SystemExit: With status 2, after printing a user error as one line.
    """
    config, checkpoint, meshes = parse_checkpoint(
        SpectrumConfig, description.partition("\n")[0], arguments, prog
    )
    training.set_threads(config.test.threads)
    surrogate = load_surrogate(checkpoint, device=config.test.device)
    folder = checkpoint.parent
    if config.folder is not None:
        folder = expand_path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    untrained = copy.deepcopy(surrogate.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained.reset_parameters()  # type: ignore[operator]
    cases = _of_meshes(surrogate, meshes) if meshes else _of_split(surrogate, config)
    results = {}
    for case in cases:
        after = _spectra(surrogate.model, case, config, config.vectors)
        before = _spectra(untrained, case, config, 0)
        plot_spectra(
            [one.values[0] for one in after],
            [one.values[0] for one in before],
            title=f"{case.title} (gray: before the training)",
        ).savefig(folder / f"spectrum_{case.name}.png", dpi=130)
        results[case.name] = _blocks(before, after)
        _tell(case, results[case.name])
        if config.vectors:
            written = _write_vectors(surrogate, case, after, folder)
            log.info("wrote %s", written)
    write_json(folder / "spectrum.json", results)
    pictures = ", ".join(f"spectrum_{name}.png" for name in results)
    log.info("%s: spectrum.json, %s", folder, pictures)
    return results


def _of_split(surrogate: Surrogate, config: SpectrumConfig) -> Iterator[_Case]:
    """Yield the first samples of a test split."""
    benchmark, selection = config.test.benchmark, config.test.selection
    samples = benchmark.load(selection).test
    if config.samples > len(samples):
        raise ValueError(
            f"samples is {config.samples}, but the test split has {len(samples)}"
        )
    device = surrogate.target_normalizer.shift.device
    surrogate.eval()
    for number in range(config.samples):
        sample = samples[number]
        yield _Case(
            name=f"test_{number}",
            title=f"{selection.data} {benchmark.sample} {number} of the test split",
            arguments=surrogate.model_arguments(sample.to(device)),
            pos=sample.pos,
        )


def _of_meshes(surrogate: Surrogate, meshes: Sequence[str]) -> Iterator[_Case]:
    """Yield meshes with the arguments of the network for predictions on them."""
    if isinstance(surrogate, QuerySurrogate):
        raise ValueError(
            "the checkpoint has query points, whose network has no spectra: give one "
            "of a network of residual blocks, such as FLARE"
        )
    recorded: list[Any] = []
    names = [Path(path).name for path in meshes]
    for path, name in zip(meshes, names, strict=True):
        if names.count(name) > 1:
            raise ValueError(
                f"{path}: two meshes have this file name, which the output is named "
                "after: give one at a time, or rename one"
            )

    def record(_: Any, samples: Any) -> None:
        recorded[:] = samples

    for path, name in zip(meshes, names, strict=True):
        with surrogate.register_forward_pre_hook(record):
            mesh = surrogate.predict_mesh(path)
        yield _Case(
            name=name.replace(".", "_"),
            title=name,
            arguments=surrogate.model_arguments(*recorded),
            mesh=mesh,
        )


def _spectra(
    model: Any, case: _Case, config: SpectrumConfig, num_vectors: int
) -> list[Spectrum]:
    arguments = {k: v for k, v in case.arguments.items() if k in _ARGUMENTS}
    try:
        return analysis.spectra(
            model, **arguments, chunk_size=config.chunk_size, num_vectors=num_vectors
        )
    except TypeError as error:  # unsupported network, chosen by the user
        raise ValueError(str(error)) from error


def _blocks(
    before: Sequence[Spectrum], after: Sequence[Spectrum]
) -> list[dict[str, Any]]:
    """Return the entry of each block in `spectrum.json`."""
    return [
        {
            "latents_for_95_percent": analysis.share_rank(last.values)[0].tolist(),
            "stable_rank": analysis.stable_rank(last.values)[0].tolist(),
            "stable_rank_before": analysis.stable_rank(first.values)[0].tolist(),
            "effective_rank": analysis.effective_rank(last.values)[0].tolist(),
            "eigenvalues": last.values[0].tolist(),
        }
        for first, last in zip(before, after, strict=True)
    ]


def _tell(case: _Case, blocks: Sequence[dict[str, Any]]) -> None:
    """Log a line for each block."""
    for number, block in enumerate(blocks, start=1):
        used, rank = block["latents_for_95_percent"], block["stable_rank"]
        fewest, most = min(used), max(used)
        span = f"{most}" if fewest == most else f"{fewest} to {most}"
        log.info(
            f"{case.title}, block {number}: 95 % of the sum of eigenvalues by {span} "
            f"of {len(block['eigenvalues'][0])} latents; stable rank {min(rank):.1f} "
            f"to {max(rank):.1f}, before the training "
            f"{max(block['stable_rank_before']):.1f} at most"
        )


def _write_vectors(
    surrogate: Surrogate, case: _Case, spectra: Sequence[Spectrum], folder: Path
) -> Path:
    """Save an array per block and eigenvector, with a component per head."""
    arrays = {
        f"block{block}_eigenvector{place + 1}": one.vectors[..., place].cpu()
        for block, one in enumerate(spectra, start=1)
        if one.vectors is not None
        for place in range(one.vectors.size(-1))
    }
    path = folder / f"eigenvectors_{case.name}"
    if case.mesh is None:
        assert case.pos is not None
        return mesh_io.write_points(path.with_suffix(".vtp"), case.pos.cpu(), arrays)
    at_cells = surrogate.location == "cell"
    mesh_data = case.mesh.cell_data if at_cells else case.mesh.point_data
    for name, values in arrays.items():
        mesh_data[name] = values.numpy()
    suffix = ".vtp" if isinstance(case.mesh, pv.PolyData) else ".vtu"
    return mesh_io.save_dataset(case.mesh, path.with_suffix(suffix))
