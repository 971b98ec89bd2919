"""A trained model together with its normalisers."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_flare.training.arguments import forward_arguments
from torch_geometric_flare.transforms import Normalizer


class Surrogate(nn.Module):
    """A model that takes samples and gives fields in their own units.

    Args:
        model: The network, whose forward names the fields of `Data` that it needs.
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes positions where only these are known; `None` if
            every sample brings its own `x`.
        training_data: What it was trained on, in words, such as "simulated cars".
    """

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        training_data: str | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.target_normalizer = target_normalizer
        self.coordinate_normalizer = coordinate_normalizer
        self.training_data = training_data

    def forward(self, data: Data | Tensor) -> Tensor:
        """The field in its own units, differentiable.

        Numbers are handed to the model in the dtype of its parameters.

        Args:
            data: A sample or a batch of samples with the fields that the model's
                forward names, or the positions of one sample alone. Without the field
                `x`, it is the positions encoded by `coordinate_normalizer`.

        Shapes:
            - positions: $[N, D]$, in the units of the training data

        Returns:
            The predicted field, $[N, C]$.

        Raises:
            ValueError: If a field is missing that the model's forward names.
        """
        if isinstance(data, Tensor):
            data = Data(pos=data)
        encoder = self.coordinate_normalizer
        if encoder is not None and "x" not in data and "pos" in data:
            data = copy.copy(data)
            data.x = encoder.encode(data.pos)
        arguments = forward_arguments(self.model, data)
        encoded = self.model(**_as_floating(arguments, self.model))
        # In the precision of the normaliser, where the model's is less.
        decoded: Tensor = self.target_normalizer.decode(encoded)
        return decoded

    @torch.no_grad()
    def predict(self, data: Data | Tensor) -> Tensor:
        """As `forward`, in evaluation mode and without gradients.

        Args:
            data: A sample, a batch of samples, or the positions of one sample.

        Returns:
            The predicted field, $[N, C]$.
        """
        self.eval()
        prediction: Tensor = self(data)
        return prediction


def _as_floating(arguments: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Floating-point fields in the dtype of the parameters, all others as they are."""
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
