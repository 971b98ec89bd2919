"""A two-stream model with its normalizers."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from typing_extensions import Self

from torch_geometric_flare._arguments import check_kind
from torch_geometric_flare.nn.geometry_state import GeometryState
from torch_geometric_flare.nn.wrappers import forward_parameters, unwrap
from torch_geometric_flare.surrogates.calibration import Calibration, Kind
from torch_geometric_flare.surrogates.normalized_points import (
    NormalizedPoints,
    read_fields,
    read_normalizer,
)
from torch_geometric_flare.surrogates.predict_around import predict_around
from torch_geometric_flare.surrogates.surrogate import Surrogate
from torch_geometric_flare.transforms import Normalizer

# `follow_batch` argument of a loader; it assigns query points to graphs.
FOLLOW_BATCH = ["query_pos", "query_x"]

_PREFIX = "query_"
# Batch vectors that PyTorch Geometric adds for `follow_batch`; all are equal.
_BATCHES = ("pos_batch", "x_batch", "y_batch")


class QueryPoints(NormalizedPoints):
    """Names, units and normalizers of the query points of a `QuerySurrogate`.

    Args:
        target_normalizer: Decodes the fields at query points.
        coordinate_normalizer: Encodes `query_pos` of a sample without `query_x`.
        fields: Names and units of the columns of the prediction; `None` for one field
            called `field` with all of them.
        features: Names and units of the columns of `query_x` after the coordinates. A
            sample without `query_x` has each feature as `query_<name>`.
        input_normalizer: Encodes all channels of `query_x`.
        fourier_octaves: Octaves of `transforms.fourier_features` of the coordinates.

    Raises:
        ValueError: If two fields or two features have the same name, or the number of
            channels of `fields`, or of the coordinates and `features`, differs from
            that of the normalizer.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the tensors as plain values."""
        return {
            "fields": [field.to_dict() for field in self.fields],
            "features": [field.to_dict() for field in self.features],
            "fourier_octaves": self.fourier_octaves,
        }

    @classmethod
    def from_dict(
        cls, description: Mapping[str, Any], state: Mapping[str, Tensor], prefix: str
    ) -> Self:
        """Rebuild query points from plain values and tensors.

        Args:
            description: As returned by `to_dict`.
            state: Tensors by name.
            prefix: Prefix of the names.

        Raises:
            ValueError: If the normalizer of the fields is missing, or the values are
                malformed.
        """
        target, coordinates, inputs = (
            read_normalizer(state, f"{prefix}{name}_normalizer")
            for name in ("target", "coordinate", "input")
        )
        if target is None:
            raise ValueError(f"the file holds no {prefix}target_normalizer")
        return cls(
            target,
            coordinates,
            fields=read_fields(description["fields"]),
            features=read_fields(description["features"]),
            input_normalizer=inputs,
            fourier_octaves=description["fourier_octaves"],
        )


class QuerySurrogate(Surrogate):
    r"""A `Surrogate` of a model such as `nn.FLAREQuery`, which predicts anywhere.

    A sample holds the geometry as for a `Surrogate`, in `pos`, `x` and so on, and the
    query points under the same names with the prefix `query_`: `query_pos` or
    `query_x`, `query_y`, and features. Each stream has separate normalizers and fields.

    `predict` returns the fields of both streams. `encode` returns the state of a
    geometry, from which `predict_at` predicts at any points. `predict_mesh` takes the
    geometry as its mesh and predicts the fields of the source points.

    Args:
        model: The network, whose forward takes `query_x`.
        target_normalizer: For the source points, see `Surrogate`; also all further
            arguments except `query`.
        query: Names, units and normalizers of the query points.

    Raises:
        ValueError: As `Surrogate`; also if the forward of `model` takes no `query_x`.
    """

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        *arguments: Any,
        query: QueryPoints,
        **keywords: Any,
    ) -> None:
        super().__init__(model, target_normalizer, *arguments, **keywords)
        check_kind(QueryPoints, "a surrogates.QueryPoints", query=query)
        if "query_x" not in forward_parameters(model):
            raise ValueError(
                f"query is given, but the forward of {type(unwrap(model)).__name__} "
                "takes no query_x: leave it out, or take a model such as FLAREQuery"
            )
        self.query = query

    def forward(self, data: Data | Tensor) -> Any:
        """Predict the fields of both streams in physical units; differentiable.

        Args:
            data: A sample or a batch of samples with query points. To batch samples,
                a loader needs `follow_batch=["query_pos", "query_x"]`, which
                `SurrogateDataModule` sets.

        Returns:
            The fields at source points, $[N, C]$, and at query points, $[N_q, C_q]$.

        Raises:
            ValueError: As `Surrogate.forward`; also if there are no query points.
        """
        check_kind(Data, "a torch_geometric.data.Data", data=data)
        y, f = self.model(**self.model_arguments(data))
        return self.target_normalizer.decode(y), self.query.target_normalizer.decode(f)

    def model_arguments(self, data: Data | Tensor) -> dict[str, Any]:
        """Return the encoded arguments of the model's forward for a sample or a batch.

        Args:
            data: As for `forward`.
        """
        if isinstance(data, Data):
            points = query_points(data)
            data = copy.copy(data)
            data.query_x = self._encode_query(points)
            data.query_batch = points.get("batch")
        return super().model_arguments(data)

    @torch.no_grad()
    def encode(self, data: Data | Tensor) -> GeometryState:
        """Encode a geometry into the state that `predict_at` needs.

        Runs in evaluation mode and without gradients.

        Args:
            data: A sample or a batch of samples, or the positions of one sample. Query
                points are ignored.
        """
        self.eval()
        arguments = super().model_arguments(_without_queries(data))
        model: Any = unwrap(self.model)
        names = ("x", "batch", "batch_size", "group", "weight", "u")
        state: GeometryState = model.encode(
            **{name: arguments[name] for name in names if name in arguments}
        )
        return state

    @torch.no_grad()
    def predict_at(self, state: GeometryState, query: Data | Tensor) -> Tensor:
        """Predict at points of an encoded geometry.

        Runs in evaluation mode and without gradients, in chunks if the model has a
        `chunk_size`.

        Args:
            state: Output of `encode`.
            query: The positions of the points; or a sample that has them as
                `query_pos` or `query_x`, and the features.

        Shapes:
            - positions: $[N_q, D]$, in the units of the training data

        Returns:
            The fields at query points, $[N_q, C_q]$, in physical units.

        Raises:
            ValueError: If the sample lacks a feature, or the state comes from another
                model.
        """
        self.eval()
        points = query_points(
            Data(query_pos=query) if isinstance(query, Tensor) else query
        )
        model: Any = unwrap(self.model)
        x = self._encode_query(points).to(next(model.parameters()).dtype)
        f: Tensor = model.decode(state, x, points.get("batch"))
        return self.query.target_normalizer.decode(f)

    def source(self) -> Surrogate:
        """Return the surrogate of only the source points; it shares all weights.

        To load it from a file, pass a `nn.FLARE` of the same sizes as `model`.
        """
        model: Any = unwrap(self.model)
        source = Surrogate(model.source, **self.settings())
        source.guard, source.calibration = self.guard, self.calibration
        return source

    def summary(self, data: Data | Tensor) -> Tensor:
        """Return the input of the guard; query points are ignored.

        Args:
            data: As for `encode`.
        """
        return self.source().summary(data)

    def calibrate(
        self, data: Sequence[Data], *arguments: Any, **options: Any
    ) -> Calibration:
        """Measure bands of the fields at source points, as `Surrogate` does.

        Args:
            data: Samples with the true fields `y`.
            *arguments: Passed to `Surrogate.calibrate`.
            **options: Passed to `Surrogate.calibrate`.
        """
        members = [member.source() for member in options.pop("members", ())]
        source = self.source()
        self.calibration = source.calibrate(
            data, *arguments, members=members, **options
        )
        return self.calibration

    def band(self, data: Data | Tensor, kind: Kind = "marginal") -> Tensor:
        """Return half widths at source points, as `Surrogate` does.

        Args:
            data: As for `encode`.
            kind: As for `Surrogate.band`.
        """
        return self.source().band(data, kind)

    def predict_mesh(self, mesh: Any, **options: Any) -> Any:
        """Predict the fields of the source points on a mesh, as `Surrogate` does.

        Args:
            mesh: The geometry.
            **options: Passed to `Surrogate.predict_mesh`.
        """
        return self.source().predict_mesh(mesh, **options)

    def predict_around(self, mesh: Any, at: Any, **options: Any) -> Any:
        """Encode a mesh and predict the fields at query points around it.

        If the mesh is a closed surface in 3D, points inside it get NaN, and the field
        data of the result give their number as `points_inside`. The other field data
        are those of `Surrogate.predict_mesh`.

        Needs PyVista: `pip install ".[viz]"`. Write the result with
        `mesh_io.save_dataset`.

        Args:
            mesh: The geometry, as for `Surrogate.predict_mesh`.
            at: Where to predict, in the unit of the mesh: a `mesh_io.QuerySite`, its
                text, such as `"slice:y=0"`, or a PyVista mesh, whose points are used.
                Features of query points are arrays of this mesh or computed: distances
                to `mesh` by `mesh_io.distance_features`, others by
                `mesh_io.find_features`.
            **options: Passed to `Surrogate.predict_mesh`; `location` applies to the
                source points, and `constants` may hold features of query points.

        Returns:
            A dataset of the query points with one point array per field: a
            `pyvista.ImageData` for a slice or a box, a `pyvista.PolyData` for a table,
            or a copy of the mesh that was passed.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If `mesh` or `at` is neither a file nor one mesh.
            ValueError: As `Surrogate.predict_mesh`, for either; also if `at` is not a
                query site, has the wrong dimension or lies far from the training box,
                or distances are needed and `mesh` is not a closed surface.

        Warns:
            UserWarning: As `Surrogate.predict_mesh`, for either.
        """
        with torch.device("cpu"):  # meshes are on the CPU; ignore the default device
            return predict_around(self, mesh, at, **options)

    def describe_more(self) -> dict[str, Any]:
        """Return what a checkpoint stores about the query points."""
        return {"query": self.query.to_dict()}

    @classmethod
    def read_more(
        cls, description: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return the query points from a checkpoint as a constructor argument."""
        query = QueryPoints.from_dict(description["query"], state, "query.")
        return {"query": query}

    def _encode_query(self, points: Data) -> Tensor:
        x = self.query.encode_input(points)
        if x is None:
            raise ValueError(
                "query points have no x, and it cannot be made without query_pos and a "
                "coordinate_normalizer of QueryPoints: add query_x to each sample"
            )
        return x


def query_points(data: Data) -> Data:
    """Return the query points of a sample or a batch as a separate sample.

    Args:
        data: A sample or batch with `query_pos`, `query_y` and so on.

    Returns:
        A sample with `pos`, `y` and so on; for a batch also `batch` and `num_graphs`.

    Raises:
        ValueError: If there are no query points, or `data` is a batch that does not say
            which graph they belong to.
    """
    points = Data()
    for name in _query_names(data):
        points[name.removeprefix(_PREFIX)] = data[name]
    if points.get("pos") is None and points.get("x") is None:
        raise ValueError(
            f"the data has neither query_pos nor query_x, only {sorted(data.keys())}: "
            "add the points to predict at in the dataset or by a transform"
        )
    vectors = [points[name] for name in _BATCHES if name in points]
    graphs = getattr(data, "num_graphs", 1)
    if vectors:
        points.batch, points.num_graphs = vectors[0], graphs
    elif "batch" in data and graphs > 1:
        raise ValueError(
            "the data is a batch without query_pos_batch: make the loader with "
            f"follow_batch={FOLLOW_BATCH}"
        )
    return points


def _without_queries(data: Data | Tensor) -> Data:
    """Return a copy without query points and with an empty `query_x`."""
    data = Data(pos=data) if isinstance(data, Tensor) else copy.copy(data)
    for name in _query_names(data):
        del data[name]
    data.query_x = torch.empty(0)
    return data


def _query_names(data: Data) -> list[str]:
    return sorted(name for name in data.keys() if name.startswith(_PREFIX))  # noqa: SIM118
