"""Training that was cut off continues as if it had not been."""

import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from conftest import make_akoa_folder, make_oasis_folder
from gan_utils import DataError, atomic_write, data, read_json, write_json
from gan_utils.callbacks import Diverged, training_callbacks
from gan_utils.gan import build_gan
from gan_utils.pair import STATE, epochs_done, named_variables, restore_state, save_state
from gan_utils.run_folder import read_history, training
from gan_utils.settings import choose_settings
from scripts.train import train

pytestmark = pytest.mark.slow

KILLED_RUN = """
import os, signal, sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from scripts.train import train
from test_resume import settings_of

class KillInside(keras.callbacks.Callback):
    "Ends the process within an epoch, as a power cut would."
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)

def half_of_the_state(path, **arrays):
    "Ends the process between two epochs, while it keeps the state of the second one."
    real_savez(path, **arrays)
    if arrays["epochs_done"] == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

when, real_savez = sys.argv[2], np.savez
if when == "between":
    np.savez = half_of_the_state
train(settings_of("brain", "improved", sys.argv[3], sys.argv[4]), *([KillInside()] if when == "inside" else []))
"""


def settings_of(experiment, recipe, folder, output, **changes):
    return choose_settings(
        experiment, "smoke", recipe, folder, **{"output": str(output), "batch_size": 4, "epochs": 4, **changes}
    )


def test_generator_is_of_the_last_whole_epoch_also_where_a_callback_puts_older_weights_back(tmp_path):
    settings = settings_of("brain", "baseline", make_oasis_folder(tmp_path / "slices"), tmp_path / "runs")
    early = keras.callbacks.EarlyStopping("generator_loss", min_delta=1e9, patience=2, mode="min",
                                          restore_best_weights=True)  # fmt: skip
    folder = train(settings, early)
    done = read_json(folder / "run.json")["epochs_done"]
    model = build_gan(settings)
    assert restore_state(model, folder) == done == 3
    saved = keras.models.load_model(folder / "generator.keras").get_weights()
    for weight, expected in zip(saved, model.averaged_generator.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def runs_in(output):
    return sorted(path.name for path in output.iterdir() if path.name[0] != ".")


def start(settings):
    """Begin a run, or continue one, without training."""
    with training(settings, data.load(settings), build_gan(settings)) as (folder, done):
        return folder, done


def assert_same_run(folder, other):
    """Equal number by number; only the clock may differ."""
    with np.load(folder / STATE) as state, np.load(other / STATE) as expected:
        assert state.files == expected.files
        for name in expected.files:
            np.testing.assert_array_equal(state[name], expected[name], err_msg=name)
    history, expected = read_history(folder), read_history(other)
    for name in set(expected.dtype.names) - {"seconds", "processor_seconds"}:
        np.testing.assert_array_equal(history[name], expected[name], err_msg=name)
    assert (history["seconds"] > 0).all()
    pictures = sorted(path.name for path in other.glob("image_at_epoch_*.png"))
    assert len(pictures) == len(expected)
    for name in ("step_losses.csv", *pictures):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    return {"brain": make_oasis_folder(folder / "brain"), "knee": make_akoa_folder(folder / "knee")}


def test_a_killed_process_continues_to_the_same_numbers(slices, tmp_path):
    def run(output, when):
        here = os.path.dirname(__file__)
        command = [sys.executable, "-W", "ignore", "-c", KILLED_RUN, here, when, slices["brain"], output]
        return subprocess.run(command, cwd=os.path.dirname(here), stderr=subprocess.PIPE, text=True)

    folder = tmp_path / "cut" / "brain-improved-smoke"
    for when, epochs_kept in (("inside", 1), ("between", 1)):
        assert run(tmp_path / "cut", when).returncode == -signal.SIGKILL
        assert epochs_done(folder) == epochs_kept
    assert (folder / f"unfinished_{STATE}").exists()
    for output in ("cut", "whole"):
        ended = run(tmp_path / output, "never")
        assert ended.returncode == 0, ended.stderr
    assert_same_run(folder, tmp_path / "whole" / "brain-improved-smoke")
    assert [note["epochs_done"] for note in read_json(folder / "run.json")["went_on"]] == [1, 1]
    assert not list(folder.glob("unfinished_*"))


EIGHT_A_CALL = {"steps_per_execution": 8, "steps_per_epoch": 8}


@pytest.mark.parametrize(
    ("experiment", "recipe", "changes"),
    [
        ("brain", "baseline", {}),
        ("knee", "baseline", {}),
        ("brain", "improved", EIGHT_A_CALL),
        ("knee", "baseline", EIGHT_A_CALL),
    ],
    ids=["brain", "knee", "improved, eight steps a call", "knee, eight steps a call"],
)
def test_two_and_two_epochs_equal_four(experiment, recipe, changes, slices, tmp_path):
    changes = {"evaluate_every": 1, **changes}
    whole = settings_of(experiment, recipe, slices[experiment], tmp_path / "whole", **changes)
    expected = train(whole)
    for epochs in (2, 4):
        half = settings_of(experiment, recipe, slices[experiment], tmp_path / "cut", epochs=epochs, **changes)
        folder = train(half)
        assert len(read_history(folder)) == epochs
    assert_same_run(folder, expected)
    rows = len(np.genfromtxt(folder / "step_losses.csv", delimiter=",", names=True))
    assert rows == 4 * whole.steps_per_epoch // (whole.steps_per_execution or 1)
    with np.load(folder / STATE) as state:
        assert state["generator_optimizer 0"] == 4 * whole.steps_per_epoch  # every step was done, and none twice


class Halve(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        rate = self.model.generator_optimizer.learning_rate
        rate.assign(rate / 2)


def test_what_a_callback_changes_is_kept_with_the_epoch(slices, tmp_path):
    start = "brain", "baseline", slices["brain"]
    expected = train(settings_of(*start, tmp_path / "whole", evaluate_every=1), Halve())
    for epochs in (2, 4):
        folder = train(settings_of(*start, tmp_path / "cut", epochs=epochs, evaluate_every=1), Halve())
    assert_same_run(folder, expected)


def test_a_run_with_other_settings_is_kept_and_the_difference_said(slices, tmp_path, capsys):
    folder = train(settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=1))
    other = settings_of("brain", "baseline", slices["brain"], tmp_path, batch_size=3, beta_1=0.1)
    assert start(other) == (folder, 0)
    new, kept = runs_in(tmp_path)
    assert (epochs_done(tmp_path / kept), epochs_done(folder), new) == (1, 0, folder.name)
    said = capsys.readouterr().out
    assert "batch_size was 4, is 3; beta_1 was 0.9, is 0.1" in said
    assert f"kept in {kept}.\nTo continue that one, name it {folder.name} again, and choose what it had.\n" in said


def test_a_run_of_an_older_version_is_kept(slices, tmp_path, capsys):
    settings = settings_of("brain", "baseline", slices["brain"], tmp_path)
    folder, _ = start(settings)
    notes = read_json(folder / "run.json")
    notes["settings"]["learning_rate"] = notes["settings"].pop("generator_learning_rate")
    write_json(folder / "run.json", notes)
    start(settings)
    said = capsys.readouterr().out
    assert "learning_rate was 0.0001, is None" in said
    assert "generator_learning_rate was None, is 0.0001" in said


@pytest.mark.parametrize("notes", ["{}", '{"settings": {}}'])
def test_notes_with_nothing_in_them_are_those_of_another_run(notes, slices, tmp_path):
    settings = settings_of("brain", "baseline", slices["brain"], tmp_path)
    settings.run_folder.mkdir()
    (settings.run_folder / "run.json").write_text(notes)
    start(settings)
    assert runs_in(tmp_path) == ["brain-baseline-smoke", "brain-baseline-smoke-earlier"]


def test_broken_notes_say_what_to_do(slices, tmp_path):
    settings = settings_of("brain", "baseline", slices["brain"], tmp_path)
    settings.run_folder.mkdir()
    (settings.run_folder / "run.json").write_text('{"settings": ')
    with pytest.raises(DataError, match=r"run\.json is broken .*Rename its folder"):
        start(settings)


@pytest.mark.parametrize("epochs", [2, 1])
def test_a_finished_run_that_is_asked_for_again_says_so_and_stays_as_it_is(epochs, slices, tmp_path, capsys):
    folder = train(settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=2))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert train(settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=epochs)) == folder
    assert runs_in(tmp_path) == [folder.name]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    finished = "done: this run is finished. For more, ask for more epochs; to start over, rename"
    assert f"2 of {epochs} epoch{'s' * (epochs > 1)} {finished}" in capsys.readouterr().out


def test_a_finished_run_that_is_continued_leaves_a_copy(slices, tmp_path, capsys):
    folder = train(settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=1))
    for result in ("generator.keras", "results.json"):
        (folder / result).write_text("result of epoch 1")
    capsys.readouterr()
    longer = settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=2)
    train(longer)
    (kept,) = (tmp_path / name for name in runs_in(tmp_path) if name != folder.name)
    said = capsys.readouterr().out
    assert f"The run of 1 epoch is kept in {kept.name}.\n1 of 2 epochs done\n" in said
    assert (kept / "generator.keras").read_text() == "result of epoch 1"
    assert (folder / "generator.keras").stat().st_size > 1000
    assert not (folder / "results.json").exists()
    assert read_history(folder)["epoch"].tolist() == [1, 2]
    assert read_history(kept)["epoch"].tolist() == [1]
    notes = read_json(folder / "run.json")
    assert (notes["settings"]["epochs"], notes["epochs_done"], notes["finished"]) == (2, 2, True)
    assert notes["images_seen"] == 2 * 4 * 4
    assert notes["seconds"] == round(float(read_history(folder)["seconds"][-1]), 1)


def test_a_run_that_was_cut_off_after_its_last_epoch_is_only_finished(slices, tmp_path):
    settings = settings_of("brain", "baseline", slices["brain"], tmp_path, epochs=1)
    folder = train(settings)
    history = (folder / "history.csv").read_bytes()
    (folder / "generator.keras").unlink()
    assert train(settings) == folder
    assert runs_in(tmp_path) == [folder.name]
    assert (folder / "generator.keras").exists()
    assert (folder / "history.csv").read_bytes() == history


def test_a_run_does_not_continue_with_other_subjects(slices, tmp_path):
    folder = make_oasis_folder(tmp_path / "slices")
    train(settings_of("brain", "baseline", folder, tmp_path / "runs", epochs=1))
    (folder / "keras_png_slices_train" / "case_001_slice_0.nii.png").unlink()
    settings = settings_of("brain", "baseline", folder, tmp_path / "runs")
    with pytest.raises(DataError, match=r"slices has changed since .*brain-baseline-smoke was trained: slices were"):
        start(settings)


def test_the_state_of_other_networks_is_refused(tmp_path):
    save_state(build_gan(choose_settings("brain", "smoke")), tmp_path, epochs_done=1)
    with pytest.raises(DataError, match=r"state\.npz holds other networks"):
        restore_state(build_gan(choose_settings("brain", "smoke", filters=5)), tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 half a state", b"\x93NUMPY\x01\x00"])
def test_a_broken_state_says_what_to_do(content, tmp_path):
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(DataError, match=r"state\.npz is broken .*Delete it"):
        epochs_done(tmp_path)


def test_a_state_that_would_run_code_is_refused(tmp_path):
    np.savez(tmp_path / STATE, epochs_done=np.array([print], dtype=object))
    with pytest.raises(DataError, match=r"state\.npz is broken"):
        epochs_done(tmp_path)


def test_diverging_training_stops_at_the_last_whole_epoch(slices, tmp_path):
    settings = settings_of("brain", "baseline", slices["brain"], tmp_path)
    splits, model = data.load(settings), build_gan(settings)
    kept = {}

    def blow_up(epoch, logs):
        kept[epoch] = {name: variable.numpy() for name, variable in named_variables(model).items()}
        if epoch == 2:
            model.optimizer.learning_rate = 1e30

    with (
        pytest.raises(Diverged, match=r"diverged in epoch 3, step \d: .*nan.* back at the end of epoch 2\. .*smaller"),
        training(settings, splits, model) as (folder, _),
    ):
        model.fit(
            data.training_batches(splits.train.images, settings),
            epochs=4,
            steps_per_epoch=4,
            callbacks=[
                *training_callbacks(settings, folder, splits),
                keras.callbacks.LambdaCallback(on_epoch_begin=blow_up),
            ],
            shuffle=False,
            verbose=0,
        )
    assert epochs_done(folder) == len(read_history(folder)) == 2
    assert not (folder / "image_at_epoch_0003.png").exists()
    for name, variable in named_variables(model).items():
        np.testing.assert_array_equal(variable.numpy(), kept[2][name], err_msg=name)
    notes = read_json(folder / "run.json")
    assert (notes["epochs_done"], notes["finished"]) == (2, False)
    assert (folder / "generator.keras").exists()


def test_an_atomic_write_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"results\.json cannot be written \(No space left on device\)\. Make room"):
        write_half()
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]
    assert path.read_text() == "old"
