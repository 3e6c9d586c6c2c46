"""Files that another program holds open, which Windows does not let anyone replace: training says so and goes on."""

import csv
import pathlib

import keras
import pytest

import gan_utils
from gan_utils import FileInUse, atomic_write, data, newest, write_rows
from gan_utils.callbacks import training_callbacks
from gan_utils.gan import build_gan
from gan_utils.pair import STATE, epochs_done
from gan_utils.plots import epoch_image_path
from gan_utils.run_folder import read_history, training
from gan_utils.settings import choose_settings

EPOCHS = 4


@pytest.fixture
def held_open(monkeypatch):
    """Names of files that no file can be renamed to."""
    names, rename = set(), pathlib.Path.replace

    def replace(new, path):
        if path.name in names:
            raise PermissionError(13, "Access is denied", str(new))
        return rename(new, path)

    monkeypatch.setattr(pathlib.Path, "replace", replace)
    monkeypatch.setattr(gan_utils, "SECONDS_TO_REPLACE", 0)
    return names


@pytest.fixture
def train(oasis_folder, tmp_path, held_open):
    """Trains while some files are held open after the second and third epoch; returns the run's folder."""

    def trained(*names, until=3):
        sizes = {"batch_size": 4, "steps_per_epoch": 2, "ssim_batches": 3, "epochs": EPOCHS}
        settings = choose_settings("brain", "smoke", data=str(oasis_folder), output=str(tmp_path), **sizes)
        splits, model = data.load(settings), build_gan(settings)
        opened = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: held_open.update(names) if 0 < epoch < until else held_open.clear()
        )
        with training(settings, splits, model) as (folder, _):
            model.fit(
                data.training_batches(splits.train.images, settings),
                epochs=EPOCHS,
                steps_per_epoch=2,
                callbacks=[opened, *training_callbacks(settings, folder, splits)],
                shuffle=False,
                verbose=0,
            )
        return folder

    return trained


def read_column(path):
    with open(path, newline="") as file:
        return [int(next(iter(row.values()))) for row in csv.DictReader(file)]


@pytest.mark.parametrize("names", [("history.csv", "step_losses.csv"), ("step_losses.csv", "step_losses_new.csv")])
def test_rows_of_tables_that_are_open_elsewhere_are_written_later(train, capsys, names):
    folder = train(*names)
    assert read_column(folder / "history.csv") == [1, 2, 3, 4]
    assert read_column(folder / "step_losses.csv") == [*range(1, 9)]
    assert not list(folder.glob("*_new.csv"))
    assert not list(folder.glob("unfinished*"))
    said = capsys.readouterr().err
    for name in names:
        assert said.count(f"{name} cannot be replaced. Close it in all other programs. Training goes on") in (0, 2)
    assert names[-1] in said


def test_rows_of_a_table_that_stays_open_are_found_beside_it(train):
    folder = train("history.csv", "step_losses.csv", until=EPOCHS)
    assert read_column(folder / "history.csv") == [1]
    assert read_history(folder)["epoch"].tolist() == [1, 2, 3, 4]
    assert read_column(newest(folder / "step_losses.csv")) == [*range(1, 9)]


def test_state_that_cannot_be_replaced_is_written_an_epoch_later(train, capsys):
    assert epochs_done(train(STATE)) == EPOCHS
    assert capsys.readouterr().err.count(f"{STATE} cannot be replaced") == 2


def test_an_earlier_image_that_is_open_stays_and_training_goes_on(train, capsys):
    """It is of the same run, which was cut off, and so the same image."""
    folder = train()
    path = epoch_image_path(folder, 2)
    path.write_text("as it was")
    (folder / STATE).unlink()
    (folder / "history.csv").unlink()
    assert epochs_done(train(path.name)) == EPOCHS
    assert path.read_text() == "as it was"
    assert f"{path.name} cannot be replaced" in capsys.readouterr().err


def test_a_file_that_is_closed_within_seconds_is_replaced(tmp_path, held_open, monkeypatch):
    monkeypatch.setattr(gan_utils, "SECONDS_TO_REPLACE", 60)
    monkeypatch.setattr(gan_utils.time, "sleep", lambda seconds: held_open.clear())
    held_open.add("a.txt")
    with atomic_write(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_file_that_stays_open_is_named_and_left_as_it_is(tmp_path, held_open):
    held_open.add("a.txt")
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(FileInUse, match=f"{tmp_path / 'a.txt'} cannot be replaced"),
        atomic_write(tmp_path / "a.txt") as path,
    ):
        path.write_text("new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_full_disk_is_not_taken_for_an_open_file(tmp_path):
    with pytest.raises(OSError, match="No space left"), write_rows(tmp_path / "a.csv"):
        raise OSError(28, "No space left on device")
