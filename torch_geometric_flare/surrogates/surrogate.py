"""A trained model together with its normalizers."""

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from typing_extensions import Self

from torch_geometric_flare.fields import Field
from torch_geometric_flare.surrogates.calibration import (
    Calibration,
    Kind,
    Quantities,
    band,
    calibrate,
)
from torch_geometric_flare.surrogates.normalized_model import NormalizedModel
from torch_geometric_flare.surrogates.predict_mesh import predict_mesh
from torch_geometric_flare.surrogates.pretrained import (
    from_pretrained,
    push_to_hub,
    save_pretrained,
)
from torch_geometric_flare.surrogates.sensitivity import (
    Flow,
    Quantity,
    Sensitivity,
    mesh_sensitivity,
)


class Surrogate(NormalizedModel):
    r"""A model that takes samples and predicts fields in their own units.

    A prediction takes these steps:

    1. The input is the sample's `x`. A sample without `x` gets one from its positions,
       encoded by `coordinate_normalizer`, and the named `features` beside them.
    2. `input_normalizer` encodes the input, if there is one, and
       `condition_normalizer` the conditions `u` of the sample.
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
        weighted: Whether points count by what they stand for, `weight` of a sample,
            such as the areas of its cells. A sample without it has points that stand
            for equal parts, as those drawn evenly over a surface; a mesh gets areas,
            volumes or lengths by itself. It has no effect on a model whose forward
            takes no `weight`, such as `MeshGraphNet`.
        conditions: Names and units of the columns of `u` of a sample, $[1, G]$: numbers
            of the whole sample, such as a speed, for a model with `condition_channels`.
        condition_normalizer: Encodes `u`.
        feature_bounds: The least and the largest value of each channel of `features`
            over the training, as `transforms.channel_bounds` returns them.
            `predict_mesh` warns of values beyond them; without them, of values more
            than three deviations from the mean that `input_normalizer` holds.
        condition_bounds: The same of each channel of `conditions`.

    Raises:
        ValueError: If `location` is none of its choices, two fields or two features
            have the same name, the channels of `fields`, of the coordinates and
            `features`, or of `conditions` are not as many as those of their normalizer,
            those of `conditions` are not as many as the model takes, or
            `feature_bounds` or `condition_bounds` are not a finite least and largest
            value of each channel.
    """

    def predict_mesh(
        self,
        mesh: str | os.PathLike[str] | Any,
        *,
        location: str | None = None,
        constants: Mapping[str, Sequence[float]] | None = None,
        scale: float = 1.0,
        arrays: Iterable[Field] = (),
        weight: str | None = None,
        guard: str = "warn",
    ) -> Any:
        """Predict on a mesh and return a copy of it with one array per field.

        The arrays have the names of the fields. The field data of the copy hold their
        units, as `<name>_unit`, where they lie, as `<name>_location`, and `provenance`.
        Where the mesh has the true field, an array of its source or its name, it is
        kept as `<name>_true`, beside the difference `<name>_error`; what was predicted
        before is replaced. Where points lie outside of the box of the training, the
        array `outside_box` is one.

        Needs PyVista: `pip install ".[viz]"`. Write the result with
        `mesh_io.save_dataset`.

        Args:
            mesh: A file that `mesh_io.read_mesh` takes, or a PyVista mesh. Hidden
                cells and loose points are left out, see `mesh_io.visible_part`.
            location: Where to predict: `"point"` or `"cell"`. By default where it was
                trained, or at the points if that is not known.
            constants: For a condition, or a feature that is the same everywhere, one
                number per channel; see `mesh_io.find_conditions` and
                `mesh_io.find_features`. Those that neither this nor the field data of
                a file give are taken from `cases.csv` beside it, see
                `mesh_io.add_case`.
            scale: Units of the training in one unit of length of the mesh. The copy
                keeps the coordinates of the mesh.
            arrays: Fields and features, by name, that this mesh has under other names,
                such as `Field("pressure", source="static-pressure (Pa)")`.
            weight: `"area"` to let each cell or point count by its area (length,
                volume), `"none"` to let all count alike; by default as it was trained,
                see `weighted`. Of points without cells, areas are estimated from their
                nearest neighbors. The field data of the copy say what was taken, as
                `weights`.
            guard: Where the surrogate has a guard, see `fit_guard`: `"warn"` or
                `"error"` for a mesh that is not like the training samples, or `"off"`.
                The states that it compares are gathered during the prediction. The
                field data of the copy say what it found, as `guard`.

        Returns:
            A `pyvista.PolyData` or `pyvista.UnstructuredGrid`.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If `mesh` is neither a file nor one mesh.
            ValueError: If the file is broken, the mesh is empty, lies far from the box
                of the training or lacks a feature or a condition, the surrogate has no
                coordinate normalizer, `weight` is none of its choices or the model
                takes none, the prediction is not finite, or the mesh is not like the
                training samples and `guard` is `"error"`.

        Warns:
            UserWarning: If the mesh is not like the training samples, less than 80 % of
                the points lie in the box, or have a feature within its bounds over the
                training, see `feature_bounds`, if a condition is not
                within its own, if `location` is another one than that of the
                training, the mesh brings a field that is not finite everywhere, or its
                cells differ in area more than tenfold and all count alike.
        """
        with torch.device("cpu"):  # where meshes are, whatever torch's default device
            return predict_mesh(
                self,
                mesh,
                location=location,
                constants=constants,
                scale=scale,
                arrays=arrays,
                weight=weight,
                guard=guard,
            )

    def sensitivity(
        self,
        mesh: str | os.PathLike[str] | Any,
        quantity: Quantity = "drag",
        wrt: str = "pos",
        *,
        flow: Flow | None = None,
        smoothing: float | None = None,
        chunk_size: int | None = None,
        location: str | None = None,
        constants: Mapping[str, Sequence[float]] | None = None,
        scale: float = 1.0,
        arrays: Iterable[Field] = (),
        weight: str | None = None,
    ) -> Sensitivity:
        r"""Return the derivative of a force by each vertex, or by each condition.

        The derivative goes through the fields and through the shape: centers, normals,
        areas and weights of the points follow the vertices, in double precision. It is
        exact for triangles and quads; of other polygons, the place of the prediction
        moves as the mean of the corners does. Arrays of the mesh other than `normal`
        and `area` stay with their points, and edges of a graph stay as they are.

        Of a surrogate in single precision the derivative has its digits; take
        `surrogate.double()` for more.

        Needs PyVista, and SciPy for `smoothing`: `pip install ".[viz,data]"`.

        Args:
            mesh: A surface mesh, as for `predict_mesh`.
            quantity: `"drag"` or `"lift"`, a coefficient of the predicted pressure as
                of `metrics.mesh_forces`; or a function of the predicted fields by name,
                $[N, C]$ each, and of a `SurfaceGeometry`, that returns one number.
            wrt: `"pos"` for the vertices, `"u"` for the conditions.
            flow: What coefficients refer to; not needed for a function.
            smoothing: Length below which the derivative is smoothed, in the unit of the
                mesh, see `mesh_io.sobolev_smooth`; `None` for none.
            chunk_size: Points that the network computes at a time, forwards and
                backwards; by default as the network is set.
            location: As for `predict_mesh`.
            constants: As for `predict_mesh`.
            scale: As for `predict_mesh`.
            arrays: As for `predict_mesh`.
            weight: As for `predict_mesh`.

        Returns:
            The number and its derivatives. Write the mesh with `mesh_io.save_dataset`,
            and draw it with `visualization.plot_sensitivity`.

        Raises:
            ValueError: As `predict_mesh`; if an argument is none of its choices, the
                mesh has cells that are not faces, a force has no `flow`, or the
                function does not return one number.
        """
        with torch.device("cpu"):
            return mesh_sensitivity(
                self,
                mesh,
                quantity,
                wrt=wrt,
                flow=flow,
                smoothing=smoothing,
                chunk_size=chunk_size,
                location=location,
                constants=constants,
                scale=scale,
                arrays=tuple(arrays),
                weight=weight,
            )

    def calibrate(
        self,
        data: Sequence[Data],
        level: float = 0.9,
        *,
        quantities: Quantities | None = None,
        members: Sequence["Surrogate"] = (),
    ) -> Calibration:
        r"""Measure bands that hold the truth of new samples of the same kind.

        Sets `calibration`, by which `band` and `predict_mesh` give half widths. It
        travels in checkpoints. Predictions stay as they are.

        Args:
            data: Samples with their true fields `y` that have chosen nothing: neither
                trained on nor used to stop a training. At least
                $\text{level} / (1 - \text{level})$ of them, 9 for 0.9.
            level: The share of new samples, or of their points, to hold.
            quantities: Gives named numbers of a sample and its fields, such as drag;
                they get intervals of their own.
            members: Surrogates of other seeds: bands are then wide where these
                disagree. Their weights travel along, and each costs a prediction.

        Returns:
            The calibration.

        Raises:
            ValueError: If there are too few samples, `level` is not in (0, 1), a truth
                is missing or not finite, or a member has a model of another class.
        """
        self.calibration = calibrate(self, data, level, quantities, members)
        return self.calibration

    def band(self, data: Data | Tensor, kind: Kind = "marginal") -> Tensor:
        """Return the half width of the band about the prediction at each point.

        Args:
            data: One sample, or its positions.
            kind: `"marginal"`, to hold a share of the points of new samples, or
                `"simultaneous"`, to hold all points of a share of new samples.

        Returns:
            $[N, C]$, in the units of the fields.

        Raises:
            ValueError: If there is no calibration, or `kind` is neither.
        """
        if isinstance(data, Tensor):
            data = Data(pos=data)
        return band(self, data, self.predict(copy.copy(data)), kind)

    def save_pretrained(
        self, folder: str | os.PathLike[str], metrics: Mapping[str, float] | None = None
    ) -> None:
        """Write the surrogate to a folder that `from_pretrained` and the hub read.

        The folder gets `model.safetensors` with weights and normalizers, `config.json`
        with all else in plain values, and `README.md`, a model card that states the
        data, the box, the units and the metrics. Files of these names are replaced. No
        file holds pickled objects.

        Needs safetensors: `pip install ".[hub]"`.

        Args:
            folder: The folder; made if it does not exist.
            metrics: Measured errors by name, such as
                `{"relative_l2": evaluate(surrogate, test).mean().item()}`.

        Raises:
            ValueError: If `folder` is a file, a metric is not a finite number, or the
                format cannot hold the dtype of a weight.
        """
        save_pretrained(self, os.fspath(folder), metrics)

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
        return push_to_hub(
            self,
            repo_id,
            metrics,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        model: nn.Module | None = None,
        device: torch.device | str = "cpu",
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> Self:
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
        return from_pretrained(
            cls,
            os.fspath(source),
            model,
            device,
            revision=revision,
            token=token,
        )
