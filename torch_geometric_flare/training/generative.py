"""Training of a surrogate that draws fields."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from torch_geometric_flare.surrogates import GenerativeSurrogate, Surrogate
from torch_geometric_flare.surrogates.noise import NUM_WAVES
from torch_geometric_flare.surrogates.normalized_points import names_of
from torch_geometric_flare.training.errors import graphs_of, true_fields
from torch_geometric_flare.training.module import SurrogateModule, refuse_derivatives


class GenerativeModule(SurrogateModule):
    r"""Trains a `surrogates.GenerativeSurrogate` by flow matching.

    For each sample of a batch, noise $\epsilon$ and a time $t$ are drawn, and the loss
    is the mean over samples of

    $$\frac{1}{NC}\,\bigl\| v\bigl((1 - t)\,\epsilon + t\,y,\ t\bigr)
      - (y - \epsilon) \bigr\|^2$$

    of fields encoded by `target_normalizer`. The times of a batch are evenly spaced.
    The minimum of the loss is above zero, because $y_t$ does not determine $\epsilon$.
    All stages log the loss only. Validation and test use the same noise and times in
    every epoch, and need fields that are finite at all points.

    Args:
        *arguments: Those of `SurrogateModule`.
        noise_length: Correlation length of the noise, see
            `surrogates.GenerativeSurrogate`.
        **keywords: Those of `SurrogateModule`, without `query`.

    Raises:
        ValueError: As `SurrogateModule` and `surrogates.GenerativeSurrogate`; or for a
            recipe with a `derivative_weight`.
    """

    surrogate: GenerativeSurrogate
    _draws = True
    _may_have_gaps = ()  # the network sees the true fields at all points

    def __init__(
        self, *arguments: Any, noise_length: float = 0.2, **keywords: Any
    ) -> None:
        self._noise_length = noise_length  # the base makes the surrogate
        if keywords.get("query") is not None:
            raise ValueError("query is given, but draws are of one set of points")
        super().__init__(*arguments, **keywords)
        refuse_derivatives(self.recipe, "flow matching has no derivatives")

    def forward(self, data: Data) -> Tensor:
        """Return the error of the velocity at random noise and times, $[N, C]$.

        Args:
            data: The batch, with the true fields as `y`.

        Raises:
            ValueError: If `data` has no `y` or one of another shape, or points on other
                processes.
        """
        if data.get("group") is not None:
            raise ValueError(
                "some points of data are on other processes, but flow matching needs "
                "all points of a sample"
            )
        truth = true_fields(data)
        surrogate, graphs = self.surrogate, graphs_of(data)
        batch, number = graphs[0], graphs[1] or 1
        generator = None if self.training else torch.Generator("cpu").manual_seed(0)
        channels = surrogate.target_normalizer.num_channels
        given: Any = {
            "generator": generator,
            "dtype": torch.float32,
            "device": "cpu",
        }
        weights = torch.randn(number, 2 * NUM_WAVES, channels, **given)
        spread = torch.arange(number, device="cpu") / number
        fraction = (spread + torch.rand(1, **given)) % 1
        noise = surrogate.noise(data, weights)
        if truth.shape != noise.shape:
            raise ValueError(
                f"y has shape {tuple(truth.shape)}, expected {tuple(noise.shape)}: "
                f"{names_of(surrogate.fields)} at each point"
            )
        y = surrogate.target_normalizer.encode(truth)
        time, noise = fraction.to(y), noise.to(y)
        at_points = (time if batch is None else time[batch]).unsqueeze(1)
        state = (1 - at_points) * noise + at_points * y
        return surrogate.velocity(data, state, time) - (y - noise)

    def loss(self, prediction: Tensor, data: Data) -> Tensor:
        """Return the mean over samples of the mean square of the velocity's error.

        Args:
            prediction: The error, as of `forward`.
            data: The batch.

        Shapes:
            - `prediction`: $[N, C]$
        """
        batch, number = graphs_of(data)
        squares = prediction.square().mean(dim=1)
        if batch is None:
            return squares.mean()
        means: Tensor = scatter(squares, batch, 0, number, reduce="mean")
        return means.mean()

    def measure(self, prediction: Tensor, data: Data) -> dict[str, Tensor]:
        """Return the loss.

        Args:
            prediction: The error of the velocity.
            data: The batch.

        Shapes:
            - `prediction`: $[N, C]$
        """
        return {"loss": self.loss(prediction, data)}

    def _surrogate_class(self) -> Callable[..., Surrogate]:
        return partial(GenerativeSurrogate, noise_length=self._noise_length)
