"""A trained model with its normalizers."""

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
from torch_geometric_flare.surrogates.guarded_model import GuardedModel
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


class Surrogate(GuardedModel):
    r"""A model that takes samples and predicts fields in physical units.

    A prediction takes these steps:

    1. The input is the sample's `x`. If a sample has no `x`, it is built from the
       positions, encoded by `coordinate_normalizer`, and the named `features`.
    2. `input_normalizer` encodes the input, if there is one, and
       `condition_normalizer` the conditions `u` of the sample.
    3. With `fourier_octaves`, sines and cosines of the encoded coordinates are added.
    4. The model predicts, and `target_normalizer` decodes.

    Args:
        model: The network, whose forward names the fields of `Data` that it needs.
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes the positions of a sample without `x`.
        training_data: Description of the training data, such as "simulated cars".
        fields: Names and units of the columns of the prediction; `None` for one field
            called `field` with all of them.
        features: Names and units of the columns of `x` after the coordinates. A sample
            without `x` has each feature under its name or under
            `transforms.feature_key` of it.
        input_normalizer: Encodes all channels of `x`.
        location: Where on a mesh the training samples lie, `"cell"` or `"point"`; the
            default for predictions. `None` if unknown.
        fourier_octaves: Octaves of `transforms.fourier_features` of the coordinates,
            which `input_normalizer` should scale to about [-1, 1]; 0 for none. Each
            octave adds two model inputs per coordinate.
        weighted: Whether points are weighted by the `weight` of a sample, such as the
            areas of its cells. Without it, all points of a sample have equal weights,
            as points drawn evenly over a surface; for a mesh, areas, volumes or lengths
            are computed. It has no effect on a model whose forward takes no `weight`,
            such as `MeshGraphNet`.
        surface: Whether all training samples lie on surfaces in space. `predict_mesh`
            then warns about a mesh of volume cells.
        conditions: Names and units of the columns of `u` of a sample, $[1, G]$: numbers
            of the whole sample, such as a speed, for a model with `condition_channels`.
        condition_normalizer: Encodes `u`.
        feature_bounds: Minimum and maximum of each channel of `features` over the
            training data, as `transforms.channel_bounds` returns them. `predict_mesh`
            warns of values outside them; without bounds, of values more than three
            standard deviations from the mean, both from `input_normalizer`.
        condition_bounds: The same for each channel of `conditions`.

    Raises:
        ValueError: If `location` is invalid, two fields or two features have the same
            name, the number of channels of `fields`, of the coordinates and `features`,
            or of `conditions` differs from that of the normalizer, the model takes
            another number of conditions, or `feature_bounds` or `condition_bounds` are
            not a finite minimum and maximum of each channel.
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

        The arrays have the names of the fields. The field data of the copy hold the
        units as `<name>_unit`, the locations as `<name>_location`, and `provenance`.
        If the mesh has the true field, under its source or its name, it is kept as
        `<name>_true`, and the difference is added as `<name>_error`; earlier
        predictions are replaced. If points lie outside the training box, the array
        `outside_box` is one there.

        Needs PyVista: `pip install ".[viz]"`. Write the result with
        `mesh_io.save_dataset`.

        Args:
            mesh: A file that `mesh_io.read_mesh` takes, or a PyVista mesh. Hidden
                cells and unused points are left out, see `mesh_io.visible_part`.
            location: Where to predict: `"point"` or `"cell"`. By default as in
                training, or at the points if that is unknown.
            constants: For a condition, or a feature that is the same everywhere, one
                number per channel; see `mesh_io.find_conditions` and
                `mesh_io.find_features`. Values missing here and in the field data of a
                file are taken from `cases.csv` in its folder, see `mesh_io.add_case`.
            scale: Length of one unit of the mesh in units of the training data. The
                copy keeps the coordinates of the mesh.
            arrays: Fields and features, by name, that this mesh has under other names,
                such as `Field("pressure", source="static-pressure (Pa)")`.
            weight: `"area"` to weight each cell or point by its area (length, volume),
                `"none"` for equal weights; by default as in training, see `weighted`.
                For points without cells, areas are estimated from their nearest
                neighbors. The field data of the copy record the choice as `weights`.
            guard: If the surrogate has a guard, see `fit_guard`: `"warn"` or `"error"`
                for a mesh that is unlike the training samples, or `"off"`. The states
                that it compares are collected during the prediction. The field data of
                the copy record the verdict as `guard`.

        Returns:
            A `pyvista.PolyData` or `pyvista.UnstructuredGrid`.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If `mesh` is neither a file nor one mesh.
            ValueError: If the file is broken, the mesh is empty, lies far from the
                training box or lacks a feature or a condition, the surrogate has no
                coordinate normalizer, `weight` is invalid or the model takes none, the
                prediction is not finite, or the mesh is unlike the training samples and
                `guard` is `"error"`.

        Warns:
            UserWarning: If the mesh is unlike the training samples, less than 80 % of
                the points lie in the training box or within the bounds of a feature,
                see `feature_bounds`, a condition is outside its bounds, `location`
                differs from that of training, a true field of the mesh is not finite
                everywhere, or its cells differ in area more than tenfold and have equal
                weights.
        """
        with torch.device("cpu"):  # meshes are on the CPU; ignore the default device
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

        The derivative includes the fields and the shape: centers, normals, areas and
        weights of the points depend on the vertices, in double precision. It is exact
        for triangles and quads; for other polygons, the prediction point moves like
        the mean of the corners. Other arrays of the mesh keep their values at each
        point, and the edges of a graph do not change.

        A surrogate in single precision gives a derivative in single precision; use
        `surrogate.double()` for more digits.

        Needs PyVista, and SciPy for `smoothing`: `pip install ".[viz,data]"`.

        Args:
            mesh: A surface mesh, as for `predict_mesh`.
            quantity: `"drag"` or `"lift"`, a coefficient of the predicted pressure as
                in `metrics.mesh_forces`; or a function of the predicted fields by name,
                $[N, C]$ each, and a `SurfaceGeometry`, that returns one number.
            wrt: `"pos"` for the vertices, `"u"` for the conditions.
            flow: Reference values of the coefficients; not needed for a function.
            smoothing: Length below which the derivative is smoothed, in the unit of the
                mesh, see `mesh_io.sobolev_smooth`; `None` for none.
            chunk_size: Points that the network processes at a time, in the forward and
                backward pass; by default the network's `chunk_size`.
            location: As for `predict_mesh`.
            constants: As for `predict_mesh`.
            scale: As for `predict_mesh`.
            arrays: As for `predict_mesh`.
            weight: As for `predict_mesh`.

        Returns:
            The scalar and its derivatives. Write the mesh with `mesh_io.save_dataset`,
            and plot it with `visualization.plot_sensitivity`.

        Raises:
            ValueError: As `predict_mesh`; also if an argument is invalid, the mesh has
                cells that are not faces, a force has no `flow`, or the function does
                not return one number.
        """
        with torch.inference_mode(False), torch.device("cpu"):
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
        r"""Measure bands that contain the true fields of new samples of the same kind.

        Sets `calibration`, which `band` and `predict_mesh` use for half widths. It is
        saved in checkpoints and does not change predictions.

        Args:
            data: Samples with true fields `y` that were used neither for training nor
                for any choice, such as early stopping. At least
                $\text{level} / (1 - \text{level})$ of them, 9 for 0.9.
            level: The share of new samples, or of their points, to cover.
            quantities: Function that returns named numbers of a sample and its fields,
                such as drag; each gets an interval.
            members: Surrogates trained with other seeds: bands are then wide where
                these disagree. Their weights are saved too, and each adds the cost of a
                prediction.

        Returns:
            The calibration.

        Raises:
            ValueError: If there are too few samples, `level` is not in (0, 1), a truth
                is missing, not finite or of another shape than the prediction, or a
                member has a model of another class.
        """
        self.calibration = calibrate(self, data, level, quantities, members)
        return self.calibration

    def band(self, data: Data | Tensor, kind: Kind = "marginal") -> Tensor:
        """Return the half width of the band around the prediction at each point.

        Args:
            data: One sample, or its positions.
            kind: `"marginal"`, to cover a share of the points of new samples, or
                `"simultaneous"`, to cover all points of a share of new samples.

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
        with everything else as plain values, and `README.md`, a model card that states
        the data, the box, the units and the metrics. Existing files of these names are
        replaced. No file holds pickled objects.

        Needs safetensors: `pip install ".[hub]"`.

        Args:
            folder: The folder; created if it does not exist.
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
        """Upload the files of `save_pretrained` to the Hugging Face hub.

        Needs huggingface_hub: `pip install ".[hub]"`.

        Args:
            repo_id: The repository, as `"owner/name"`; created if it does not exist.
            metrics: As for `save_pretrained`.
            private: Whether a new repository is private; by default the owner's
                setting.
            token: Token of the hub; by default that of `hf auth login`.
            revision: The branch; by default the main one.
            commit_message: Message of the commit.

        Returns:
            The URL of the commit.

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

        The weights are verified against the SHA-256 in `config.json`. No code from the
        files is executed.

        Needs safetensors, and for the hub huggingface_hub:
        `pip install ".[hub]"`.

        Args:
            source: The folder, or a repository as `"owner/name"`.
            model: As for `load_surrogate`: the network to load the weights into, if its
                class is not in `torch_geometric_flare.nn.models`.
            device: Device of the surrogate.
            revision: A commit, tag or branch of the repository.
            token: Token of the hub; by default that of `hf auth login`.

        Returns:
            The surrogate, in evaluation mode. Its predictions are bitwise equal to
            those of the saved one.

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
