"""A surrogate that samples fields when the input does not determine them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare._arguments import check_integers, check_kind, check_numbers
from torch_geometric_flare._random import derive_seed
from torch_geometric_flare.nn.wrappers import unwrap
from torch_geometric_flare.surrogates.calibration import Calibration
from torch_geometric_flare.surrogates.noise import NUM_WAVES, smooth_noise
from torch_geometric_flare.surrogates.normalized_model import check_input_gaps
from torch_geometric_flare.surrogates.surrogate import Surrogate
from torch_geometric_flare.transforms import Normalizer


class GenerativeSurrogate(Surrogate):
    r"""Draws fields $y$ given a sample's geometry, features and conditions.

    Flow matching ([arXiv 2210.02747](https://arxiv.org/abs/2210.02747)) on straight
    paths: the network learns the velocity of fields between noise at $t = 0$ and data
    at $t = 1$,

    $$y_t = (1 - t)\,\epsilon + t\,y, \qquad
      v(y_t, t \mid \text{sample}) \approx y - \epsilon,$$

    by least squares, see `training.GenerativeModule`. A draw starts from noise and
    solves $\dot y_t = v(y_t, t)$. The network takes the encoded input of the sample and
    $y_t$ at each point, and $2t - 1$ as the last condition of the graph. Use

        FLARE(channels + C, 64, C, condition_channels=G + 1, condition_octaves=4,
              latent_conditions=True)

    for `channels` input channels, $C$ fields and $G$ conditions of the sample.

    The noise is a Gaussian field that is a function of the position: draws do not
    depend on the order of the points, and different meshes get the same noise.

    Predictions, bands and forces use the mean of 32 draws of 4 steps, which takes 256
    evaluations of the network.

    Args:
        model: The network, with one condition more than the channels of `conditions`.
        target_normalizer: See `Surrogate`, also for all further arguments.
        noise_length: Correlation length of the noise, in coordinates encoded by
            `coordinate_normalizer`.

    Raises:
        ValueError: As `Surrogate`, or if `noise_length` is not positive.

    Source:
        Lipman et al., Flow matching for generative modeling, 2023; Kerrigan et al.,
        Functional flow matching, [arXiv 2305.17209](https://arxiv.org/abs/2305.17209).

    Examples:
        >>> model = FLARE(3, 16, 1, num_layers=1, heads=2, condition_channels=1)
        >>> surrogate = GenerativeSurrogate(
        ...     model, Normalizer.identity(1), Normalizer.identity(2)
        ... )
        >>> surrogate.sample(torch.rand(50, 2), num_draws=4, num_steps=2).shape
        torch.Size([4, 50, 1])
    """

    own_conditions = 1

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        *arguments: Any,
        noise_length: float = 0.2,
        **keywords: Any,
    ) -> None:
        super().__init__(model, target_normalizer, *arguments, **keywords)
        check_numbers(noise_length=noise_length)
        if not 0 < noise_length < float("inf"):
            raise ValueError(f"noise_length is {noise_length}, expected a length")
        self.noise_length = float(noise_length)

    def forward(self, data: Data | Tensor) -> Tensor:
        """Return the mean of 32 draws, in the units of the fields; differentiable.

        Args:
            data: As for `Surrogate.forward`.
        """
        return torch.stack([self._draw(data, i, 4, 0) for i in range(32)]).mean(0)

    @torch.no_grad()
    def sample(
        self,
        data: Data | Tensor,
        num_draws: int = 32,
        *,
        num_steps: int = 4,
        seed: int = 0,
    ) -> Tensor:
        r"""Draw fields, in evaluation mode and without gradients.

        Draw $i$ depends only on the seed, on $i$ and on the sample, not on the other
        samples of the batch or on `num_draws`. Samples of a batch start from the same
        noise.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.
            num_draws: Number of draws $S$.
            num_steps: Steps of the midpoint rule from noise to data; each evaluates
                the network twice.
            seed: Seed of the draws.

        Returns:
            $[S, N, C]$, in the units of the fields.

        Raises:
            ValueError: As `Surrogate.predict`; also if a number is not positive or
                there are no positions.
        """
        check_integers(1, num_draws=num_draws, num_steps=num_steps)
        check_integers(0, seed=seed)
        check_kind((Data, Tensor), "a sample, a batch or positions", data=data)
        self.eval()
        draws = [self._draw(data, i, num_steps, seed) for i in range(num_draws)]
        check_input_gaps(draws, data)
        return torch.stack(draws)

    def velocity(self, data: Data | Tensor, state: Tensor, time: Tensor) -> Tensor:
        """Return the velocity of encoded fields.

        Args:
            data: As for `forward`.
            state: Encoded fields at `time`, between noise and data.
            time: Time of each graph, from 0 (noise) to 1 (data).

        Shapes:
            - `state`: $[N, C]$
            - `time`: $[B]$

        Returns:
            $[N, C]$
        """
        velocity: Tensor = self.model(**self.model_arguments(data, state, time))
        return velocity

    def noise(self, data: Data | Tensor, weights: Tensor) -> Tensor:
        """Return Gaussian fields of unit variance at the points.

        Args:
            data: A sample or a batch with `pos`, or positions.
            weights: Standard normal numbers for each graph, see `noise.smooth_noise`.

        Shapes:
            - `weights`: $[B, 2F, C]$

        Returns:
            $[N, C]$
        """
        pos = data if isinstance(data, Tensor) else data.get("pos")
        if pos is None:
            raise ValueError("data has no pos, the positions that noise is a field of")
        box = self.coordinate_normalizer
        pos = (pos if box is None else box.encode(pos)) / self.noise_length
        parts = zip(pos.split(_sizes(data)), weights, strict=True)
        return torch.cat([smooth_noise(*part) for part in parts])

    def model_arguments(
        self,
        data: Data | Tensor,
        state: Tensor | None = None,
        time: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the encoded arguments of the model's forward.

        Args:
            data: As for `forward`.
            state: As for `velocity`; by default zero, the mean of the noise.
            time: As for `velocity`; by default zero.
        """
        arguments = super().model_arguments(data)
        x, channels = arguments["x"], self.target_normalizer.num_channels
        expected = getattr(unwrap(self.model), "in_channels", None)
        if isinstance(expected, int) and expected != x.size(1) + channels:
            raise ValueError(
                f"x has {x.size(1)} channels and the fields {channels}, but the "
                f"network was built with in_channels={expected}: build it with "
                f"in_channels={x.size(1) + channels}"
            )
        if state is None:
            state = x.new_zeros(len(x), channels)
        if time is None:
            time = x.new_zeros(len(_sizes(data)))
        arguments["x"] = torch.cat([x, state.to(x)], dim=1)
        last = (2 * time - 1).unsqueeze(1).to(x)
        u = arguments.get("u") if self.conditions else None
        if u is not None and len(u) != len(last):
            raise ValueError(
                f"u has {len(u)} rows, expected one for each of {len(last)} samples"
            )
        arguments["u"] = last if u is None else torch.cat([u, last], dim=1)
        return arguments

    def calibrate(self, *arguments: Any, **options: Any) -> Calibration:
        """Measure bands around the mean of draws, as `Surrogate.calibrate` does.

        Args:
            *arguments: Passed to `Surrogate.calibrate`.
            **options: Passed to `Surrogate.calibrate`; without `members`.
        """
        if options.get("members"):
            raise ValueError(
                "members are given, but a GenerativeSurrogate has draws instead: leave "
                "them out"
            )
        return super().calibrate(*arguments, **options)

    def describe_more(self) -> dict[str, Any]:
        """Return what a checkpoint stores about the noise."""
        return {"noise_length": self.noise_length}

    @classmethod
    def read_more(
        cls, description: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Return the noise length from a checkpoint as a constructor argument."""
        return {"noise_length": description["noise_length"]}

    def _draw(
        self, data: Data | Tensor, draw: int, num_steps: int, seed: int
    ) -> Tensor:
        """Return one draw, the same for equal samples of a batch."""
        channels, graphs = self.target_normalizer.num_channels, len(_sizes(data))
        generator = torch.Generator("cpu").manual_seed(derive_seed(seed, draw))
        host: Any = {"dtype": torch.float64, "device": "cpu"}
        weights = torch.randn(2 * NUM_WAVES, channels, generator=generator, **host)
        state = self.noise(data, weights.expand(graphs, -1, -1))
        step = 1 / num_steps
        for i in range(num_steps):
            time = state.new_full((graphs,), i * step)
            middle = state + step / 2 * self.velocity(data, state, time)
            state = state + step * self.velocity(data, middle, time + step / 2)
        return self.target_normalizer.decode(state)


def _sizes(data: Data | Tensor) -> list[int]:
    """Return the number of points of each graph."""
    batch = None if isinstance(data, Tensor) else data.get("batch")
    if batch is None:
        return [len(data) if isinstance(data, Tensor) else int(data.num_nodes or 0)]
    graphs = getattr(data, "num_graphs", 0)
    sizes: list[int] = torch.bincount(batch, minlength=graphs).tolist()
    return sizes
