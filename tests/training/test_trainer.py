import dataclasses

import pytest

from torch_geometric_flare.training import (
    PointParallelStrategy,
    SurrogateDataModule,
    TrainerConfig,
    build_trainer,
    fit,
)


def test_what_makes_no_sense_is_refused(module, samples, tmp_path):
    data = SurrogateDataModule(samples(2, 0), batch_size=1)
    with pytest.raises(ValueError, match="data has batch_size=1 but the recipe has 2"):
        build_trainer(module(), data, tmp_path)
    for name in ("validate_every", "devices", "patience"):
        with pytest.raises(ValueError, match=f"{name}.* 0"):
            TrainerConfig(**{name: 0})


def test_fit_takes_a_config_and_its_fields(module, samples, tmp_path, monkeypatch):
    taken = []

    def build(module, data, folder, config, callbacks):
        taken.append(config)
        raise KeyError

    monkeypatch.setattr("torch_geometric_flare.training.trainer.build_trainer", build)
    config = TrainerConfig(accelerator="cpu", precision="64-true")
    data = SurrogateDataModule(samples(2, 0), batch_size=2)
    for arguments in ((), (config,)):
        with pytest.raises(KeyError):
            fit(module(), data, tmp_path, *arguments, precision="16-true", devices=3)
    with pytest.raises(TypeError, match="patiance"):
        fit(module(), data, tmp_path, config, patiance=3)
    own = TrainerConfig(precision="16-true", devices=3)
    assert taken == [own, dataclasses.replace(own, accelerator="cpu")]


@pytest.mark.parametrize(
    ("devices", "points", "num_batches"),
    [(4, None, 2), (4, 2, 3), (4, 4, 6), (2, 4, 6)],
)
def test_devices_that_share_samples_take_the_steps_of_one(
    module, samples, tmp_path, monkeypatch, devices, points, num_batches
):
    num_steps = []
    name = "torch_geometric_flare.training.trainer.scaled_ema_decay"
    monkeypatch.setattr(name, lambda decay, steps: num_steps.append(steps) or decay)
    trainer = build_trainer(
        module(epochs=4),
        SurrogateDataModule(samples(12, 0), batch_size=2),
        tmp_path,
        TrainerConfig(
            accelerator="cpu",
            devices=devices,
            strategy="ddp" if points is None else PointParallelStrategy(points),
        ),
    )
    assert num_steps == [4 * num_batches]
    assert trainer.log_every_n_steps == num_batches
    assert trainer.world_size == devices
