"""The training of a surrogate, as a Lightning module."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch_geometric.data import Data

from torch_geometric_flare.metrics import relative_l2
from torch_geometric_flare.recipes import Recipe
from torch_geometric_flare.training.checkpoint import describe_model
from torch_geometric_flare.training.optimizer import parameter_groups
from torch_geometric_flare.training.surrogate import Surrogate
from torch_geometric_flare.transforms import Normalizer

# What a resumed training must find unchanged, and how messages call it.
_DESCRIBED = {
    "recipe": "recipe",
    "model": "model",
    "arguments": "model",
    "training_data": "training_data",
}


class SurrogateModule(LightningModule):
    """Trains any surrogate on the relative error of its decoded field.

    The loss is the mean over the samples of `metrics.relative_l2`, prediction and
    target both in the field's own units. Logged are its means over an epoch:
    `train_relative_l2`, `val_relative_l2` and `test_relative_l2`. With an average of
    the weights, validation and test see the averaged ones.

    Args:
        model: The network, whose forward names the fields of `Data` that it needs.
        target_normalizer: Decodes the network's output.
        coordinate_normalizer: Encodes positions, for predictions where only these are
            known; it travels in the checkpoint.
        recipe: The hyperparameters.
        training_data: What the model is trained on, in words; it travels in the
            checkpoint, so that predictions can say whether the data were simulated.
    """

    def __init__(
        self,
        model: nn.Module,
        target_normalizer: Normalizer,
        coordinate_normalizer: Normalizer | None = None,
        recipe: Recipe | None = None,
        training_data: str | None = None,
    ) -> None:
        super().__init__()
        self.surrogate = Surrogate(
            model, target_normalizer, coordinate_normalizer, training_data
        )
        self.recipe = Recipe() if recipe is None else recipe

    def forward(self, data: Data) -> Tensor:
        """The predicted field in its own units, $[N, C]$."""
        prediction: Tensor = self.surrogate(data)
        return prediction

    def loss(self, prediction: Tensor, data: Data) -> Tensor:
        """The mean relative error of the samples; override it to train on another.

        Args:
            prediction: The decoded field.
            data: The batch, with the true field as `y`.

        Shapes:
            - `prediction`: $[N, C]$

        Returns:
            A scalar.
        """
        return _errors(prediction, data).mean()

    def training_step(self, batch: Data, batch_idx: int) -> Tensor:
        """The loss of one batch.

        Raises:
            RuntimeError: If it is not finite.
        """
        prediction = self(batch)
        loss = self.loss(prediction, batch)
        if not bool(torch.isfinite(loss)):
            raise RuntimeError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, step "
                f"{self.global_step}: look for nan or inf in the data, lower "
                f"learning_rate={self.recipe.learning_rate}, or resume from the last "
                "checkpoint with precision='32-true'"
            )
        self._log("train", loss.detach(), batch)
        return loss

    def validation_step(self, batch: Data, batch_idx: int) -> None:
        """Log the error of one batch of the validation split."""
        self._log("val", _errors(self(batch), batch).mean(), batch)

    def test_step(self, batch: Data, batch_idx: int) -> None:
        """Log the error of one batch of the test split."""
        self._log("test", _errors(self(batch), batch).mean(), batch)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """AdamW, and a one-cycle schedule over all steps of the training."""
        recipe = self.recipe
        optimizer = AdamW(
            parameter_groups(self.surrogate.model, recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=recipe.betas,
        )
        # The schedule divides by the length of each phase less one step.
        num_steps = max(4, int(self.trainer.estimated_stepping_batches))
        schedule = OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=num_steps,
            pct_start=max(recipe.pct_start, 2 / num_steps),
            div_factor=recipe.div_factor,
            final_div_factor=recipe.final_div_factor,
            cycle_momentum=recipe.cycle_momentum,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the model without this code's objects in the file."""
        checkpoint["surrogate"] = self._description()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue the training of another model or by another recipe.

        Raises:
            ValueError: If the checkpoint's recipe, model or description of the data is
                not this one.
        """
        theirs, ours = checkpoint["surrogate"], self._description()
        for name, what in _DESCRIBED.items():
            changed = _differences(theirs.get(name), ours[name])
            if changed:
                raise ValueError(
                    f"the checkpoint was trained with another {what}; (checkpoint, "
                    f"now): {changed}: resume with the same {what}, or start a "
                    "training in another folder"
                )

    def _description(self) -> dict[str, Any]:
        return {
            **describe_model(self.surrogate.model),
            "recipe": self.recipe.to_dict(),
            "training_data": self.surrogate.training_data,
        }

    def _log(self, stage: str, error: Tensor, batch: Data) -> None:
        self.log(
            f"{stage}_relative_l2",
            error,
            batch_size=batch.num_graphs,
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
        )


def _differences(theirs: Any, ours: Any) -> Any:
    """Pairs of what differs, name by name in dictionaries; nothing where all agree."""
    if theirs == ours:
        return None
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return (theirs, ours)
    return {
        name: (theirs.get(name), ours.get(name))
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    }


def _errors(prediction: Tensor, data: Data) -> Tensor:
    """The relative error of each sample, $[B]$."""
    if "y" not in data:
        raise ValueError(
            f"the data has no true field y, only {sorted(data.keys())}: add it in the "
            "dataset or by a transform"
        )
    return relative_l2(
        prediction, data.y, data.batch, data.num_graphs, data.get("group")
    )
