import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch_geometric.transforms import FixedPoints

from torch_geometric_flare.nn import FLARE
from torch_geometric_flare.surrogates import load_surrogate
from torch_geometric_flare.training import (
    SurrogateDataModule,
    evaluate,
    fit,
    read_history,
)
from torch_geometric_flare.transforms import Normalizer

KILLED = "killed"


class Killer(Callback):
    """Dies at a chosen batch (counted over all epochs) or validation."""

    def __init__(self, batch=None, validation=None, die=None):
        self.batch = batch
        self.validation = validation
        self.die = die or self.stop

    def stop(self):
        raise InterruptedError(KILLED)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.batch:
            self.die()

    def on_validation_batch_end(self, trainer, module, *_):
        if trainer.current_epoch == self.validation:
            self.die()


def run(module, samples, folder, *, num_workers=0, **arguments):
    """Four epochs of four steps: dropout, random points, averaged weights."""
    data = SurrogateDataModule(
        samples(7, 0),
        samples(3, 1),
        batch_size=2,
        train_transform=FixedPoints(20, replace=False),
        seed=3,
        num_workers=num_workers,
    )
    arguments = {"accelerator": "cpu", "progress": False} | arguments
    return fit(module(ema_decay=0.5, epochs=8), data, folder, **arguments)


def assert_same(first, second, where=""):
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def content(folder):
    """All of a checkpoint: weights, averages, optimiser, schedule, progress."""
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def whole(module, samples, tmp_path_factory):
    """The folder of a training that nothing has stopped, and its surrogate."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(module, samples, folder)


@pytest.fixture
def finished(whole, tmp_path):
    """A folder of such a training, to go on in."""
    return shutil.copytree(whole[0], tmp_path / "finished")


@pytest.mark.parametrize(
    ("kill", "num_workers"),
    [
        ({"batch": 2}, 0),  # in the first epoch: no checkpoint yet
        ({"batch": 4}, 0),  # after the first epoch's last step
        ({"batch": 10}, 0),  # in the third epoch
        ({"batch": 10}, 2),
        ({"validation": 2}, 0),
        ({"batch": 32}, 0),  # after the very last step
    ],
)
def test_a_killed_training_resumes_to_the_bit(
    module, samples, tmp_path, whole, kill, num_workers
):
    folder = tmp_path / "killed"
    with pytest.raises(InterruptedError, match=KILLED):
        run(
            module,
            samples,
            folder,
            num_workers=num_workers,
            callbacks=[Killer(**kill)],
        )
    torch.rand(7)  # the state of the generators must not matter
    resumed = run(module, samples, folder, num_workers=num_workers, resume=True)
    assert_same(content(folder), content(whole[0]))
    assert_same(resumed.state_dict(), whole[1].state_dict())
    assert read_history(folder) == read_history(whole[0])


def test_a_killed_training_by_muon_resumes_to_the_bit(module, samples, tmp_path):
    def by_muon(**recipe):
        torch.manual_seed(0)
        network = FLARE(3, 8, 1, num_layers=2, heads=2, num_latents=4)
        return module(network, optimizer="muon", **recipe)

    whole = run(by_muon, samples, tmp_path / "whole")
    folder = tmp_path / "killed"
    for batch in (6, 17):
        with pytest.raises(InterruptedError, match=KILLED):
            run(by_muon, samples, folder, resume=True, callbacks=[Killer(batch)])
    resumed = run(by_muon, samples, folder, resume=True)
    assert_same(content(folder), content(tmp_path / "whole"))
    assert_same(resumed.state_dict(), whole.state_dict())
    (state,) = content(folder)["optimizer_states"]
    kinds = {name for entry in state["state"].values() for name in entry}
    assert kinds == {"momentum_buffer", "step", "exp_avg", "exp_avg_sq"}


def test_killed_again_and_again(module, samples, tmp_path, whole):
    folder = tmp_path / "killed"
    for batch in (6, 7, 17, 31):
        with pytest.raises(InterruptedError, match=KILLED):
            run(module, samples, folder, resume=True, callbacks=[Killer(batch)])
    run(module, samples, folder, resume=True)
    assert_same(content(folder), content(whole[0]))


def test_killed_while_the_checkpoint_is_written(
    module, samples, tmp_path, whole, monkeypatch
):
    folder = tmp_path / "killed"
    replaced = []

    def stop_at_the_third(source, target):
        replaced.append(target)
        if len(replaced) == 3:
            raise InterruptedError(KILLED)
        return os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_third)
        with pytest.raises(InterruptedError, match=KILLED):
            run(module, samples, folder)
    assert content(folder)["epoch"] == 1
    run(module, samples, folder, resume=True)
    assert_same(content(folder), content(whole[0]))


def test_a_finished_training_resumed_is_left_as_it_is(module, samples, whole, finished):
    again = run(module, samples, finished, resume=True)
    before = (whole[0] / "last.ckpt").read_bytes()
    assert (finished / "last.ckpt").read_bytes() == before
    assert_same(again.state_dict(), whole[1].state_dict())


def test_validation_does_not_disturb_the_training(module, samples, tmp_path, whole):
    run(module, samples, tmp_path / "seldom", validate_every=3)
    often, seldom = content(whole[0]), content(tmp_path / "seldom")
    for name in ("state_dict", "current_model_state", "optimizer_states"):
        assert_same(often[name], seldom[name], name)
    history = read_history(tmp_path / "seldom")
    measured = [value == value for value in history["val_relative_l2"]]
    assert measured == [False, False, True, False, False, True, False, False]


def test_training_learns_and_validates_the_averaged_weights(module, samples, tmp_path):
    split = samples(3, 1)
    data = SurrogateDataModule(samples(8, 0), split, batch_size=2)
    training = module(epochs=60)
    before = evaluate(training.surrogate, split).mean().item()
    surrogate = fit(training, data, tmp_path, accelerator="cpu", progress=False)
    after = evaluate(surrogate, split).mean().item()
    assert after < 0.5 * before
    history = read_history(tmp_path)
    assert history["epoch"] == list(range(60))
    assert history["val_relative_l2"][-1] == pytest.approx(after, rel=1e-5)


def test_a_file_in_place_of_the_folder(module, samples, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file' is a file"):
        run(module, samples, tmp_path / "file")


def test_a_training_is_not_overwritten(module, samples, finished):
    with pytest.raises(FileExistsError, match="resume=True"):
        run(module, samples, finished)


def test_a_training_resumes_only_as_itself(module, samples, finished):
    data = SurrogateDataModule(samples(7, 0), batch_size=2, seed=3)
    training = module(ema_decay=0.5, epochs=8, weight_decay=0.1)
    arguments = {"accelerator": "cpu", "progress": False, "resume": True}
    with pytest.raises(ValueError, match=r"'weight_decay': \(1e-05, 0.1\)"):
        fit(training, data, finished, **arguments)
    data = SurrogateDataModule(samples(7, 0), batch_size=2, seed=4)
    with pytest.raises(ValueError, match="seed=3 but the data has 4"):
        fit(module(ema_decay=0.5, epochs=8), data, finished, **arguments)


def test_a_training_resumes_only_its_own_model_and_data(
    module, samples, tmp_path, pointwise
):
    def resume(model=None, training_data="simulated cars", seed=0):
        training = module(model, epochs=1)
        training.surrogate.training_data = training_data
        data = SurrogateDataModule(samples(3, seed), batch_size=2)
        arguments = {"accelerator": "cpu", "progress": False, "resume": True}
        return fit(training, data, tmp_path, **arguments)

    def flare(**arguments):
        return FLARE(3, 16, 1, num_layers=1, heads=2, num_latents=4, **arguments)

    resume(flare())
    resume(flare())
    with pytest.raises(ValueError, match=r"another model; .*'FLARE', 'Pointwise'"):
        resume(pointwise())
    # The weights would fit.
    message = r"another model; .*\{'scale': \(1.0, 0.5\)\}: resume with the same model"
    with pytest.raises(ValueError, match=message):
        resume(flare(scale=0.5))
    with pytest.raises(
        ValueError, match="another training_data; .*'simulated cars', '"
    ):
        resume(flare(), training_data="official cars")
    with pytest.raises(ValueError, match="first_and_last_sample"):
        resume(flare(), seed=1)
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(
        ValueError, match=r"nothing to resume.*last\.ckpt.*another folder"
    ):
        resume(flare())


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
        ("bf16-mixed", torch.float32),
    ],
)
def test_precisions(module, samples, tmp_path, precision, dtype):
    class Recorder(type(module())):
        def loss(self, prediction, data):
            loss = super().loss(prediction, data)
            dtypes.update((prediction.dtype, data.y.dtype, loss.dtype))
            return loss

    dtypes = set()
    training = module(FLARE(3, 16, 1, num_layers=1, heads=2, num_latents=4), epochs=1)
    training.__class__ = Recorder
    training.surrogate.target_normalizer = Normalizer([-229.845718], [269.598572])
    data = SurrogateDataModule(samples(3, 0), samples(2, 1), batch_size=2)
    arguments = {"accelerator": "cpu", "progress": False, "precision": precision}
    surrogate = fit(training, data, tmp_path, **arguments)
    assert next(training.surrogate.model.parameters()).dtype == dtype
    assert dtypes <= {torch.float32, torch.float64}
    assert surrogate.target_normalizer.shift.float().item() == pytest.approx(
        -229.845718
    )
    assert evaluate(surrogate, samples(2, 1)).isfinite().all()
    rebuilt = load_surrogate(tmp_path / "last.ckpt")
    assert rebuilt.predict(samples(1, 0)[0]).isfinite().all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"precision": "bf16-true"}, r"\{'precision': \('32-true', 'bf16-true'\)\}"),
        ({"precision": "64-true"}, r"\{'precision': \('32-true', '64-true'\)\}"),
        ({"deterministic": True}, r"\{'deterministic': \(False, True\)\}"),
    ],
)
def test_a_training_resumes_only_by_its_own_arithmetic(
    module, samples, finished, changed, message
):
    before = (finished / "last.ckpt").read_bytes()
    try:
        with pytest.raises(
            ValueError, match=f"another arithmetic; .*{message}: resume"
        ):
            run(module, samples, finished, resume=True, **changed)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (finished / "last.ckpt").read_bytes() == before
    run(module, samples, finished, resume=True)


def test_another_precision_of_products_is_another_arithmetic(module, samples, finished):
    torch.set_float32_matmul_precision("medium")
    try:
        message = r"'matmul_precision': \('highest', 'medium'\)"
        with pytest.raises(ValueError, match=message):
            run(module, samples, finished, resume=True)
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_count(module, samples, finished, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run(module, samples, finished, resume=True)
    finally:
        torch.set_num_threads(before)


def test_half_precision_on_a_cpu_is_refused(module, samples, tmp_path):
    data = SurrogateDataModule(samples(2, 0), batch_size=2)
    arguments = {"accelerator": "cpu", "precision": "16-true", "progress": False}
    with pytest.raises(ValueError, match="'16-true' .* 'bf16-true', or '32-true'"):
        fit(module(), data, tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_the_progress_bar_works(module, samples, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    data = SurrogateDataModule(samples(2, 0), batch_size=2)
    fit(module(epochs=1), data, tmp_path, accelerator="cpu")
    assert "train_loss=" in capsys.readouterr().out


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import conftest, test_fit
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
test_fit.run(
    conftest.make_module,
    conftest.make_samples,
    {folder!r},
    callbacks=[test_fit.Killer(batch=18, die=die)],
)
"""


@pytest.mark.slow
def test_a_training_killed_by_the_system_resumes_to_the_bit(module, samples, tmp_path):
    folder = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder))
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script)])
    assert killed.returncode == -signal.SIGKILL
    assert content(folder)["epoch"] == 3
    run(module, samples, folder, resume=True)
    run(module, samples, tmp_path / "whole")
    assert_same(content(folder), content(tmp_path / "whole"))
