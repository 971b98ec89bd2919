"""The errors of a surrogate on a data set."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_flare._arguments import prefixed
from torch_geometric_flare.nn.checks import check_positive
from torch_geometric_flare.surrogates import Surrogate
from torch_geometric_flare.training.errors import (
    errors_per_field,
    graphs_of,
    mean_over_fields,
    predicted_streams,
    zero_fields,
)
from torch_geometric_flare.training.flags import (
    count_gaps,
    name_samples,
    warn_absolute,
    warn_gaps,
)
from torch_geometric_flare.training.sampling import make_batch


def host_batches(dataset: Sequence[Data], batch_size: int) -> Iterator[Data]:
    """Yield batches in order, built on the CPU for any default device of PyTorch."""
    check_positive(batch_size=batch_size)
    for first in range(0, len(dataset), batch_size):
        numbers = range(first, min(first + batch_size, len(dataset)))
        with torch.device("cpu"):
            samples = [dataset[number] for number in numbers]
        yield make_batch(samples, numbers)


def evaluate(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> Tensor:
    """Return the relative error of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Number of samples per prediction.

    Returns:
        One relative $L_2$ error per sample, averaged over the fields, in the order of
        `dataset`, on the CPU.

    Raises:
        ValueError: As `evaluate_per_field`.

    Warns:
        UserWarning: As `evaluate_per_field`.
    """
    return mean_over_fields(evaluate_per_field(surrogate, dataset, batch_size))


def evaluate_per_field(
    surrogate: Surrogate, dataset: Sequence[Data], batch_size: int = 1
) -> dict[str, Tensor]:
    """Return the relative error of each field of each sample.

    Args:
        surrogate: A trained surrogate.
        dataset: Samples with their true fields `y`.
        batch_size: Number of samples per prediction.

    Returns:
        By the name of the field, one relative $L_2$ error per sample, in the order of
        `dataset`, on the CPU. For a `QuerySurrogate`, the names of fields at query
        points have the prefix `query_`.

    Raises:
        ValueError: If `dataset` is empty or a field is missing.

    Warns:
        UserWarning: If a field is zero at every point of a sample, whose error is then
            absolute, in units of the scale of `target_normalizer`; or if a true value
            is not finite, whose point is then ignored (NaN if no point is left). The
            error of a prediction that is not finite is infinite.
    """
    if len(dataset) == 0:
        raise ValueError("dataset is empty: pass at least one sample")
    device = surrogate.target_normalizer.shift.device
    errors: dict[str, list[Tensor]] = defaultdict(list)
    zeros: dict[str, list[int]] = defaultdict(list)
    gaps: dict[str, dict[int, int]] = defaultdict(dict)
    scales: dict[str, Tensor] = {}
    first = 0  # index of the batch's first sample in the data set
    for batch in host_batches(dataset, batch_size):
        batch = batch.to(device)
        number = graphs_of(batch)[1]
        with prefixed(name_samples(range(first, first + number))):
            fields = surrogate.predict(batch)
            predicted = predicted_streams(surrogate, fields, batch)
            for prefix, prediction, points, point_set in predicted:
                scale = point_set.target_normalizer.scale
                measured = errors_per_field(
                    prediction, points, point_set.fields, scale, skip_gaps=True
                )
                zero = zero_fields(points.y, points, point_set.fields)
                counts = count_gaps(points, point_set.fields)
                for name, columns in point_set.split(scale.unsqueeze(0)).items():
                    scales[prefix + name] = columns
                    errors[prefix + name].append(measured[name].cpu())
                    zeros[prefix + name] += [
                        first + graph
                        for graph in zero.get(name, ())
                        if measured[name][graph].isfinite()
                    ]
                    gaps[prefix + name] |= {
                        first + graph: count
                        for graph, count in enumerate(counts.get(name, ()))
                        if count
                    }
        first += number
    warn_absolute(zeros, scales)
    warn_gaps(gaps)
    return {name: torch.cat(parts) for name, parts in errors.items()}
