"""A trained model together with its normalisers."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_integers, check_kind
from torch_geometric_flare.fields import Field, Fields, channel_slices, num_channels
from torch_geometric_flare.nn.wrappers import unwrap
from torch_geometric_flare.surrogates.arguments import forward_arguments
from torch_geometric_flare.surrogates.edges import edge_transform
from torch_geometric_flare.surrogates.predict_mesh import predict_mesh
from torch_geometric_flare.transforms import Normalizer, fourier_features, make_input

# Extents of the box between it and the origin that cost a coordinate too many digits.
_FAR = 2**10


class Surrogate(nn.Module):
    r"""A model that takes samples and predicts fields in their own units.

    A prediction takes these steps:

    1. The input is the sample's `x`. A sample without `x` gets one from its positions,
       encoded by `coordinate_normalizer`, and the named `features` beside them.
    2. `input_normalizer` encodes the input, if there is one.
    3. With `fourier_octaves`, sines and cosines of the encoded coordinates are added.
    4. The model predicts, and `target_normalizer` decodes.

    Args:
        model: The network, whose forward names the fields of `Data` that it needs.
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes the positions of a sample without `x`.
        training_data: What it was trained on, in words, such as "simulated cars".
        fields: Names and units of the columns of the prediction; `None` for one field
            called `field` that takes all of them.
        features: Names and units of the columns of `x` after the coordinates. A sample
            without `x` brings each feature under its own name, or that of
            `transforms.feature_key`.
        input_normalizer: Encodes all channels of `x`.
        location: Where on a mesh it was trained, `"cell"` or `"point"`, which is where
            it predicts by default; `None` if that is not known.
        fourier_octaves: Octaves of `transforms.fourier_features` of the coordinates,
            which `input_normalizer` should bring to about [-1, 1]; 0 for none. Each
            adds two inputs per coordinate to those of the model.

    Raises:
        ValueError: If `location` is none of its choices, two fields or two features
            have the same name, or the channels of `fields`, or those of the coordinates
            and `features`, are not as many as those of their normaliser.
    """

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        training_data: str | None = None,
        *,
        fields: Iterable[Field] | None = None,
        features: Iterable[Field] = (),
        input_normalizer: Normalizer | None = None,
        location: str | None = None,
        fourier_octaves: int = 0,
    ) -> None:
        super().__init__()
        if location not in ("cell", "point", None):
            raise ValueError(f"location must be 'cell' or 'point', got {location!r}")
        check_kind(nn.Module, "a torch.nn.Module", model=model)
        what = "a transforms.Normalizer"
        check_kind(Normalizer, what, target_normalizer=target_normalizer)
        check_kind(
            (Normalizer, NoneType),
            f"{what} or None",
            coordinate_normalizer=coordinate_normalizer,
            input_normalizer=input_normalizer,
        )
        channels = target_normalizer.num_channels
        self.model = model
        self.target_normalizer = target_normalizer
        self.coordinate_normalizer = coordinate_normalizer
        self.input_normalizer = input_normalizer
        self.training_data = training_data
        self.location = location
        check_integers(0, fourier_octaves=fourier_octaves)
        self.fourier_octaves = fourier_octaves
        self.fields: Fields = (
            (Field("field", channels),) if fields is None else tuple(fields)
        )
        self.features: Fields = tuple(features)
        channel_slices(self.features)  # Raises if two have the same name.
        channel_slices(self.fields)
        if num_channels(self.fields) != channels:
            raise ValueError(
                f"fields are {_names(self.fields)} of {num_channels(self.fields)} "
                f"channels together, but target_normalizer has {channels}"
            )
        if coordinate_normalizer is not None and input_normalizer is not None:
            made = coordinate_normalizer.num_channels + num_channels(self.features)
            if made != input_normalizer.num_channels:
                raise ValueError(
                    f"input_normalizer has {input_normalizer.num_channels} channels, "
                    f"but coordinates and features have {made} together"
                )

    def forward(self, data: Data | Tensor) -> Tensor:
        """Predict all fields in their own units, differentiably.

        Numbers are handed to the model in the dtype of its parameters; `pos`, where its
        forward names it, relative to the box of the training if that lies more than
        1,024 times its size away from the origin. Where its
        forward asks for edges that `data` lacks, they are made, see `edge_transform`.

        Args:
            data: A sample or a batch of samples with the fields that the model's
                forward names, or the positions of one sample alone.

        Shapes:
            - positions: $[N, D]$, in the units of the training data

        Returns:
            The predicted fields side by side, $[N, C]$.

        Raises:
            ValueError: If `data` lacks a feature or a field that the model's forward
                names, or its `x` has another number of channels than
                `input_normalizer`.
        """
        if isinstance(data, Tensor):
            data = Data(pos=data)
        check_kind(Data, "a torch_geometric.data.Data or positions", data=data)
        x = self.encode_input(data)
        if x is not None:
            data = copy.copy(data)
            data.x = x
        edges = edge_transform(self.model)
        if edges is not None:
            data = edges(data)
        arguments = forward_arguments(self.model, data)
        if isinstance(arguments.get("pos"), Tensor):
            arguments["pos"] = self._near_origin(arguments["pos"])
        arguments = _as_floating(arguments, self.model)
        if _has_other_width(self.model, arguments.get("x")):
            encoded = self._name_channels(arguments)
        else:
            encoded = self.model(**arguments)
        # In the precision of the normaliser, where the model's is less.
        decoded: Tensor = self.target_normalizer.decode(encoded)
        return decoded

    def _near_origin(self, pos: Tensor) -> Tensor:
        """Return coordinates that keep their digits when they are cast.

        Where the box of the training lies far from the origin, as in a national grid,
        they are taken from its lower corner.
        """
        box = self.coordinate_normalizer
        if box is None or box.num_channels != pos.size(-1):
            return pos
        far = box.shift.abs().max() > _FAR * box.scale.max()
        return (pos - torch.where(far, box.shift, 0.0)).to(pos.dtype)

    def _name_channels(self, arguments: dict[str, Any]) -> Any:
        """Predict; say what the channels of `x` are if the model refuses them."""
        try:
            return self.model(**arguments)
        except (ValueError, RuntimeError) as error:
            network = unwrap(self.model)
            features = num_channels(self.features)
            found = arguments["x"].size(1)
            coordinates = (found - features) // (1 + 2 * self.fourier_octaves)
            held = [f"{coordinates} coordinates"]
            held += [f"{field.name} ({field.channels})" for field in self.features]
            if self.fourier_octaves:
                held += [f"{found - features - coordinates} Fourier features"]
            raise ValueError(
                f"x has {found} channels: {', '.join(held)}; but "
                f"{type(network).__name__} was built with in_channels="
                f"{network.in_channels}: build it with in_channels={found}, or name "
                "other features"
            ) from error

    def encode_input(self, data: Data) -> Tensor | None:
        """Return the input of the model, its `x`, for a sample or a batch.

        Args:
            data: With `x`, or with `pos` and the named features.

        Returns:
            The encoded input, $[N, C_in]$; `None` if `data` has no `x` and it cannot be
            made: `pos` is missing, or the surrogate knows neither coordinates nor
            features nor inputs.

        Raises:
            ValueError: If `data` lacks a feature, or its `x` has another number of
                channels than `input_normalizer`.
        """
        x: Tensor | None = data.get("x")
        if x is None:
            # Samples of a surrogate that knows none of the three bring their own x,
            # and what it was made of is not known here.
            makes_input = (
                self.coordinate_normalizer is not None
                or self.input_normalizer is not None
                or bool(self.features)
            )
            if "pos" not in data or not makes_input:
                return None
            x = make_input(data, self.features, self.coordinate_normalizer)
        return self._add_fourier_features(self._normalize(x))

    def _add_fourier_features(self, x: Tensor) -> Tensor:
        """Append the Fourier features of the coordinates, the first columns."""
        if not self.fourier_octaves:
            return x
        coordinates = x[:, : x.size(1) - num_channels(self.features)]
        return torch.cat([x, fourier_features(coordinates, self.fourier_octaves)], 1)

    def _normalize(self, x: Tensor) -> Tensor:
        if self.input_normalizer is None:
            return x
        expected = self.input_normalizer.num_channels
        if x.dim() != 2 or x.size(1) != expected:
            named = f"the coordinates and {_names(self.features)}"
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected [N, {expected}]: "
                f"{named if self.features else 'the coordinates'}"
            )
        return self.input_normalizer.encode(x)

    def split(self, prediction: Tensor) -> dict[str, Tensor]:
        """Return the columns of each field.

        Args:
            prediction: What `forward` or `predict` returned, or a target.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            The fields by name, $[N, C_f]$ each, views of `prediction`.

        Raises:
            ValueError: If `prediction` has another number of channels.
        """
        channels = num_channels(self.fields)
        if prediction.dim() != 2 or prediction.size(1) != channels:
            raise ValueError(
                f"prediction has shape {tuple(prediction.shape)}, expected "
                f"[N, {channels}]: {_names(self.fields)}"
            )
        return {
            name: prediction[:, columns]
            for name, columns in channel_slices(self.fields).items()
        }

    @torch.no_grad()
    def predict(self, data: Data | Tensor) -> Tensor:
        """Predict as `forward` does, in evaluation mode and without gradients.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Returns:
            The predicted fields side by side, $[N, C]$.
        """
        self.eval()
        prediction: Tensor = self(data)
        return prediction

    def predict_mesh(
        self,
        mesh: str | os.PathLike[str] | Any,
        *,
        location: str | None = None,
        constants: Mapping[str, Sequence[float]] | None = None,
        scale: float = 1.0,
        arrays: Iterable[Field] = (),
    ) -> Any:
        """Predict on a mesh and return a copy of it with one array per field.

        The arrays have the names of the fields. The field data of the copy hold their
        units, as `<name>_unit`, where they lie, as `<name>_location`, and `provenance`.
        Where the mesh has the true field, an array of its source or its name, it is
        kept as `<name>_true`, beside the difference `<name>_error`; what was predicted
        before is replaced.

        Needs PyVista: `pip install ".[viz]"`. Write the result with
        `mesh_io.save_dataset`.

        Args:
            mesh: A file that `mesh_io.read_mesh` takes, or a PyVista mesh. Hidden
                cells and loose points are left out, see `mesh_io.visible_part`.
            location: Where to predict: `"point"` or `"cell"`. By default where it was
                trained, or at the points if that is not known.
            constants: For a feature that is the same everywhere, one number per
                channel; see `mesh_io.find_features`.
            scale: Units of the training in one unit of length of the mesh. The copy
                keeps the coordinates of the mesh.
            arrays: Fields and features, by name, that this mesh has under other names,
                such as `Field("pressure", source="static-pressure (Pa)")`.

        Returns:
            A `pyvista.PolyData` or `pyvista.UnstructuredGrid`.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If `mesh` is neither a file nor one mesh.
            ValueError: If the file is broken, the mesh is empty, lies far from the box
                of the training or lacks a feature, the surrogate has no coordinate
                normaliser, or the prediction is not finite.

        Warns:
            UserWarning: If less than 80 % of the points lie in the box, or have a
                feature within three deviations of its mean over the training, if
                `location` is another one than that of the training, or the mesh brings
                a field that is not finite everywhere.
        """
        with torch.device("cpu"):  # where meshes are, whatever torch's default device
            return predict_mesh(
                self,
                mesh,
                location=location,
                constants=constants,
                scale=scale,
                arrays=tuple(arrays),
            )

    def save_pretrained(
        self, folder: str | os.PathLike[str], metrics: Mapping[str, float] | None = None
    ) -> None:
        """Write the surrogate to a folder that `from_pretrained` and the hub read.

        The folder gets `model.safetensors` with weights and normalisers, `config.json`
        with all else in plain values, and `README.md`, a model card that states the
        data, the box, the units and the metrics. Files of these names are replaced. No
        file holds pickled objects.

        Needs safetensors: `pip install ".[hub]"`.

        Args:
            folder: The folder; made if it does not exist.
            metrics: Measured errors by name, such as
                `{"relative_l2": evaluate(surrogate, test).mean().item()}`.

        Raises:
            ValueError: If `folder` is a file, a metric is no finite number, or the
                format cannot hold the dtype of a weight.
        """
        from torch_geometric_flare.surrogates import pretrained  # which imports this

        pretrained.save_pretrained(self, Path(folder), metrics)

    def push_to_hub(
        self,
        repo_id: str,
        metrics: Mapping[str, float] | None = None,
        *,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str = "Upload surrogate",
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face hub.

        Needs huggingface_hub: `pip install ".[hub]"`.

        Args:
            repo_id: The repository, as `"owner/name"`; made if it does not exist.
            metrics: As for `save_pretrained`.
            private: Whether a new repository is private; by default as the owner has
                set it.
            token: Of the hub; by default that of `hf auth login`.
            revision: The branch; by default the main one.
            commit_message: What the history of the repository says.

        Returns:
            The address of the commit.

        Raises:
            ValueError: As `save_pretrained`.
        """
        from torch_geometric_flare.surrogates import pretrained

        return pretrained.push_to_hub(
            self,
            repo_id,
            metrics,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
        )

    @staticmethod
    def from_pretrained(
        source: str | os.PathLike[str],
        model: nn.Module | None = None,
        device: torch.device | str = "cpu",
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> "Surrogate":
        """Load a surrogate from a folder of `save_pretrained`, or from the hub.

        The weights are compared with the SHA-256 in `config.json`. Nothing that the
        files hold is executed.

        Needs safetensors, and for the hub huggingface_hub:
        `pip install ".[hub]"`.

        Args:
            source: The folder, or a repository as `"owner/name"`.
            model: As for `load_surrogate`: the network that takes the weights, if its
                class is not in `torch_geometric_flare.nn.models`.
            device: Where to put the surrogate.
            revision: A commit, tag or branch of the repository.
            token: Of the hub; by default that of `hf auth login`.

        Returns:
            The surrogate, in evaluation mode. Its predictions are those of the one that
            was saved, bit by bit.

        Raises:
            ValueError: If a file of the folder is missing, damaged or foreign, or the
                weights do not fit `model`; the message names the file.
            FileNotFoundError: If there is neither such a folder nor such a repository.
            ConnectionError: If there is no such folder and the hub cannot be reached.
        """
        from torch_geometric_flare.surrogates import pretrained

        return pretrained.from_pretrained(
            os.fspath(source),
            model,
            device,
            revision=revision,
            token=token,
        )


def _has_other_width(model: nn.Module, x: Tensor | None) -> bool:
    """Return whether `x` has not as many channels as the model says that it takes."""
    expected = getattr(unwrap(model), "in_channels", None)
    if x is None or x.dim() != 2 or not isinstance(expected, int) or expected < 1:
        return False
    return x.size(1) != expected


def _names(fields: Fields) -> str:
    return ", ".join(str(field) for field in fields)


def _as_floating(arguments: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Cast floating-point fields to the dtype of the parameters, and nothing else."""
    dtypes = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(dtypes, None)
    if dtype is None:
        return arguments
    return {
        name: value.to(dtype)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for name, value in arguments.items()
    }
