"""What learners do in the real notebooks: change something and run single cells, interrupt, move data, start twice."""

import os
import signal
import subprocess
import sys

import keras
import nbformat
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from conftest import NOTEBOOKS, make_akoa_folder, make_oasis_folder
from gan_utils import read_json
from gan_utils.pair import STATE
from gan_utils.run_folder import only_one, read_history

pytestmark = [pytest.mark.usefixtures("close_figures"), pytest.mark.slow]


class Notebook:
    """The cells of a real notebook, to be run one by one."""

    def __init__(self, number):
        cells = nbformat.read(NOTEBOOKS[number - 1], as_version=4).cells
        self.cells = [cell.source for cell in cells if cell.cell_type == "code"]
        self.shell = InteractiveShell.instance()

    def place(self, words):
        (place,) = (place for place, source in enumerate(self.cells) if words in source)
        return place

    def run(self, source, error=None):
        """Run a cell that holds these words, or this very code; returns what it showed."""
        if any(source in cell for cell in self.cells):
            source = self.cells[self.place(source)]
        with capture_output() as shown:
            result = self.shell.run_cell(source, store_history=True)
        found = result.error_before_exec or result.error_in_exec
        assert isinstance(found, error) if error else found is None, found
        return found if error else shown

    def run_until(self, words):
        """All cells before the one that holds these words."""
        for source in self.cells[: self.place(words)]:
            self.run(source)

    def run_after(self, words):
        for source in self.cells[self.place(words) + 1 :]:
            self.run(source)

    def choose(self, **changes):
        """Type other choices into the cell of the settings, and run it."""
        given = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        self.run(self.cells[self.place("read_choices())")].replace("read_choices()", f"read_choices({given})"))


TRAINING = "run_folder.training("
SMALL = {"image_size": 40, "generator_input_dim": 5, "batch_size": 4, "epochs": 2, "evaluate_every": 1}


@pytest.fixture
def slices(tmp_path):
    return make_oasis_folder(tmp_path / "slices")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def learner(slices, output, monkeypatch):
    """Opens a notebook with its settings cell at a small run on made-up slices."""
    os.makedirs(output)
    small = {**SMALL, "output": str(output)}
    monkeypatch.setenv("GAN_PROFILE", "smoke")
    monkeypatch.setenv("GAN_DATA", str(slices))
    monkeypatch.setenv("GAN_SETTINGS", " ".join(f"{name}={value}" for name, value in small.items()))
    for name in ("GAN_EXPERIMENT", "GAN_RECIPE", "GAN_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    InteractiveShell.clear_instance()
    yield Notebook
    InteractiveShell.clear_instance()


@pytest.fixture
def trained(learner):
    """Notebook 3 after its training cell."""
    notebook = learner(3)
    notebook.run_until(TRAINING)
    notebook.run(TRAINING)
    return notebook


def runs_in(output):
    return sorted(path.name for path in output.iterdir() if path.name[0] != ".")


def notes_of(folder):
    return read_json(folder / "run.json")


def test_other_settings_are_trained_in_a_fresh_folder(trained, output):
    trained.choose(**SMALL, output=str(output), filters=5, generator_learning_rate=0.001)
    shown = trained.run(TRAINING).stdout
    assert "held another run (filters was 4, is 5; generator_learning_rate was 0.0001, is 0.001). It is kept" in shown
    new, kept = (output / name for name in runs_in(output))
    for folder, filters, rate in ((new, 5, 0.001), (kept, 4, 0.0001)):
        notes = notes_of(folder)
        assert (notes["settings"]["filters"], notes["settings"]["generator_learning_rate"]) == (filters, rate)
        assert (notes["epochs_done"], notes["finished"]) == (2, True)
        assert keras.models.load_model(folder / "generator.keras").layers[-2].output.shape[-1] == filters


@pytest.mark.parametrize("change", [{"image_size": 32, "generator_input_dim": 4}, {"resize": "squash"}])
def test_settings_of_other_slices_say_which_cells_to_run_first(change, trained, output):
    before = notes_of(output / "brain-baseline-smoke")
    trained.choose(**SMALL | change, output=str(output))
    error = trained.run(TRAINING, error=ValueError)
    for name, value in change.items():
        assert name == "generator_input_dim" or f"is {value}" in str(error)
    assert "Run the cells of Settings and Data again, then this one" in str(error)
    assert runs_in(output) == ["brain-baseline-smoke"]
    assert notes_of(output / "brain-baseline-smoke") == before
    trained.run("data.load(settings)")
    trained.run(TRAINING)
    assert notes_of(output / "brain-baseline-smoke")["finished"]
    assert len(runs_in(output)) == 2


OWN_LOSS = """
import tensorflow as tf
TARGET = {target}
def least_squares(real_logits, fake_logits):
    return tf.reduce_mean((fake_logits - TARGET) ** 2)
"""
OWN_LAYERS = """
def own_generator():
    latents = keras.Input((100,))
    x = keras.layers.Dense(40 * 40, activation="{activation}")(latents)
    return keras.Model(latents, keras.layers.Reshape((40, 40, 1))(x))
"""


@pytest.mark.parametrize(
    ("own", "first", "second", "part"),
    [
        (OWN_LOSS, {"target": 1}, {"target": 2}, "generator_loss"),
        (OWN_LAYERS, {"activation": "tanh"}, {"activation": "linear"}, "generator"),
    ],
    ids=["a loss", "a network"],
)
def test_ones_own_loss_or_network_is_trained_and_makes_another_run(own, first, second, part, trained, output):
    source = trained.cells[trained.place("def build_model")]
    mine = {"generator_loss": "least_squares", "generator": "own_generator()"}[part]
    trained.cells[trained.place("def build_model")] = source.replace(f"{part}=None", f"{part}={mine}")
    for number, variant in ((2, first), (3, second)):
        trained.run(own.format(**variant))
        trained.run("def build_model")
        assert f"held another run (another {part}" in trained.run(TRAINING).stdout
        assert len(runs_in(output)) == number
        text = str(notes_of(output / "brain-baseline-smoke")["model"][part])
        assert str(*variant.values()) in text
    assert "this run is finished" in trained.run(TRAINING).stdout
    assert len(runs_in(output)) == 3


def test_more_epochs_continue_the_run_and_its_notes_are_right(trained, output):
    trained.choose(**SMALL | {"epochs": 3}, output=str(output))
    assert "2 of 3 epochs done" in trained.run(TRAINING).stdout
    trained.run_after(TRAINING)
    folder = output / "brain-baseline-smoke"
    notes, history = notes_of(folder), read_history(folder)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert (notes["settings"]["epochs"], notes["epochs_done"], notes["finished"]) == (3, 3, True)
    assert (notes["images_seen"], notes["seconds"]) == (3 * 4 * 4, round(float(history["seconds"][-1]), 1))
    assert (folder / "model_progress.gif").exists()


def test_a_finished_run_says_so_and_shows_its_picture_and_graphs(trained, output):
    files = {path.name: path.read_bytes() for path in (output / "brain-baseline-smoke").iterdir()}
    shown = trained.run(TRAINING)
    assert "2 of 2 epochs done: this run is finished. For more, ask for more epochs; to start over" in shown.stdout
    pictures = [shown for shown in shown.outputs if "image/png" in shown.data]
    words = " ".join(str(picture.metadata) for picture in pictures)
    assert "Sixteen generated images after epoch 2" in words
    assert "Both losses and every metric" in words
    assert "0 epochs" not in shown.stdout
    assert {path.name: path.read_bytes() for path in (output / "brain-baseline-smoke").iterdir()} == files
    trained.run_after(TRAINING)


INTERRUPTED = """
class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 2):
            raise KeyboardInterrupt
more_callbacks = [Interrupt()]
"""


def test_an_interrupted_run_is_unfinished_and_has_the_generator_of_its_last_whole_epoch(learner, output):
    notebook = learner(3)
    notebook.run_until(TRAINING)
    notebook.run(INTERRUPTED)
    notebook.run(TRAINING, error=KeyboardInterrupt)
    notebook.run_after(TRAINING)
    folder = output / "brain-baseline-smoke"
    notes = notes_of(folder)
    assert (notes["epochs_done"], notes["finished"], notes["images_seen"]) == (1, False, 16)
    kernel = keras.models.load_model(folder / "generator.keras").get_weights()[0]
    with np.load(folder / STATE) as state:
        assert any(np.array_equal(kernel, state[name]) for name in state.files)
    evaluation = learner(4)
    evaluation.run_until("example_output.png")
    notebook.run("more_callbacks = []")
    assert "1 of 2 epochs done" in notebook.run(TRAINING).stdout
    assert notes_of(folder)["finished"]
    assert runs_in(output) == ["brain-baseline-smoke"]


def test_a_typo_in_data_moves_nothing(trained, slices, output):
    trained.choose(data=str(slices) + "x")
    assert "does not exist" in str(trained.run("data.load(settings)", error=ValueError))
    assert "Data again" in str(trained.run(TRAINING, error=ValueError))
    assert runs_in(output) == ["brain-baseline-smoke"]
    assert notes_of(output / "brain-baseline-smoke")["finished"]


def test_moved_data_are_named_in_notebook_4(trained, slices, learner, monkeypatch):
    moved = slices.rename(slices.parent / "moved")
    monkeypatch.delenv("GAN_DATA")
    evaluation = learner(4)
    evaluation.run_until("data.load(settings)")
    assert "does not exist. Correct DATA" in str(evaluation.run("data.load(settings)", error=ValueError))
    monkeypatch.setenv("GAN_DATA", str(moved))
    evaluation.run("read_choices())")
    assert "real brain slices, epochs: 2" in evaluation.run("data.load(settings)").stdout
    others = make_oasis_folder(slices.parent / "others", subjects=((1, 2, 10), (402, 403), (442,)))
    monkeypatch.setenv("GAN_DATA", str(others))
    evaluation.run("read_choices())")
    assert "has changed since" in str(evaluation.run("data.load(settings)", error=ValueError))


def test_other_data_are_trained_in_a_fresh_folder_and_moved_ones_continue(
    trained, slices, learner, output, monkeypatch
):
    moved = slices.rename(slices.parent / "moved")
    others = make_oasis_folder(slices.parent / "others", subjects=((1, 2, 10), (402, 403), (442,)))
    for folder, said in ((moved, "this run is finished"), (others, "held another run (data were ")):
        trained.choose(data=str(folder))
        trained.run("data.load(settings)")
        assert said in trained.run(TRAINING).stdout
    assert len(runs_in(output)) == 2


HOLDER = """
import sys, time
from gan_utils.run_folder import only_one
from pathlib import Path
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_training_of_one_run_is_refused_until_the_first_ends(trained, output):
    folder = output / "brain-baseline-smoke"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        error = str(trained.run(TRAINING, error=ValueError))
        assert "brain-baseline-smoke is being trained by process " in error
        assert "Wait until it ends, or stop it" in error
    finally:
        holder.send_signal(signal.SIGKILL)  # as a power cut would; the system releases what it held
        holder.wait()
        holder.stdout.close()
    with only_one(folder):  # as a cell does that was run again before the first had ended
        assert "this run is finished" in trained.run(TRAINING).stdout


def test_the_other_data_set_needs_its_cells_too(trained, output, tmp_path):
    knees = make_akoa_folder(tmp_path / "knees")
    trained.run(f"settings = choose_settings('knee', 'smoke', data={str(knees)!r}, output={str(output)!r})")
    assert "experiment was brain, is knee" in str(trained.run(TRAINING, error=ValueError))


def test_notebook_5_trains_the_improved_recipe_and_puts_it_beside_the_baseline(trained, learner, output):
    notebook = learner(5)
    notebook.run_until("folders = ")
    assert runs_in(output) == ["brain-baseline-smoke", "brain-improved-smoke"]
    assert "brain-baseline-smoke, brain-improved-smoke" in notebook.run("folders = ").stdout
    assert read_history(output / "brain-improved-smoke")["epoch"].tolist() == [1, 2]


def test_notebook_5_uses_the_improved_run_of_notebook_3(learner, output, monkeypatch):
    monkeypatch.setenv("GAN_RECIPE", "improved")
    for number, said in ((3, "0 of 2 epochs done"), (5, "this run is finished")):
        notebook = learner(number)
        notebook.run_until(TRAINING)
        assert said in notebook.run(TRAINING).stdout
    notebook.run_after(TRAINING)  # without a baseline beside it
    assert runs_in(output) == ["brain-improved-smoke"]
