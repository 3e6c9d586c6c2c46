import pytest

from conftest import make_akoa_folder
from gan_utils.datasets import load_slices
from gan_utils.layouts import DataError
from gan_utils.runs import (
    check_same_data,
    finish_run,
    open_run,
    read_json,
    save_results,
    start_run,
    write_json,
)
from gan_utils.settings import choose_settings


@pytest.fixture
def settings(oasis_folder, tmp_path):
    return choose_settings("brain", "smoke", data=oasis_folder, output=str(tmp_path / "runs"))


def test_run_notes_say_how_it_was_made(settings):
    folder = start_run(settings, load_slices(settings))
    finish_run(folder, seconds=8, images_seen=400)
    notes = read_json(folder / "run.json")
    assert folder.name == "brain-baseline-smoke"
    assert notes["settings"]["image_size"] == settings.image_size
    assert notes["data"] == {
        "folder": settings.data,
        "simulated": False,
        "slices": {"train": 9, "validate": 6, "test": 3},
        "people": {"train": 3, "validate": 2, "test": 1},
        "held_out": {"validate": [402, 403], "test": [441]},
    }
    assert notes["versions"].keys() >= {"python", "tensorflow", "keras", "numpy"}
    assert notes["device"]
    assert (notes["seed"], notes["seconds"], notes["images_per_second"]) == (settings.seed, 8, 50)


def test_earlier_run_is_kept(settings, capsys):
    data = load_slices(settings)
    for epochs in (1, 2, 3):
        folder = start_run(settings, data)
        (folder / "image_at_epoch_0001.png").write_text(f"picture of run {epochs}")
    kept = sorted(path for path in folder.parent.iterdir() if path != folder)
    assert [(path / "image_at_epoch_0001.png").read_text() for path in kept] == ["picture of run 1", "picture of run 2"]
    assert kept[0].name in capsys.readouterr().out
    assert not (folder / "model_progress.gif").exists()


def test_run_is_opened_with_the_settings_it_was_made_with(settings):
    changed = choose_settings("brain", "smoke", data=settings.data, output=settings.output, epochs=7, seed=5)
    folder = start_run(changed, load_slices(changed))
    (folder / "generator.keras").write_text("stands for a trained generator")
    assert open_run(settings) == (folder, changed)


def test_run_is_judged_on_the_data_it_was_trained_on(settings, oasis_folder):
    """Also where the folder was found rather than named, and would be found elsewhere by now."""
    data = load_slices(settings)
    found = choose_settings("brain", "smoke", output=settings.output)
    folder = start_run(found, data)
    (folder / "generator.keras").write_text("stands for a trained generator")
    assert open_run(found)[1].data == str(oasis_folder)


def test_simulated_people_of_a_run_are_made_anew_where_they_were_deleted(settings):
    folder = start_run(settings, load_slices(settings))
    notes = read_json(folder / "run.json")
    notes["data"] = {"folder": str(folder / "deleted since"), "simulated": True}
    write_json(folder / "run.json", notes)
    (folder / "generator.keras").write_text("stands for a trained generator")
    assert open_run(settings)[1].data == "simulated"


def test_missing_run_names_the_notebook_to_run(settings):
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        open_run(settings)


def test_unfinished_run_is_not_opened(settings):
    start_run(settings, load_slices(settings))
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        open_run(settings)


def test_run_of_another_version_is_refused(settings):
    folder = start_run(settings, load_slices(settings))
    (folder / "generator.keras").touch()
    notes = read_json(folder / "run.json")
    notes["settings"]["learning_rate"] = notes["settings"].pop("generator_learning_rate")
    write_json(folder / "run.json", notes)
    with pytest.raises(ValueError, match="brain-baseline-smoke was made by another version"):
        open_run(settings)


def test_a_patient_who_was_added_since_training_is_noticed(akoa_folder, tmp_path):
    """The seed would choose other patients to hold out, among them some that the run was trained on."""
    settings = choose_settings("knee", "smoke", data=akoa_folder, output=str(tmp_path / "runs"))
    data = load_slices(settings)
    folder = start_run(settings, data)
    check_same_data(folder, load_slices(settings))
    make_akoa_folder(akoa_folder, patients=range(1, 11))
    changed = load_slices(settings)
    assert changed.test.people[0] != data.test.people[0]
    with pytest.raises(DataError, match=r"has changed since .*knee-baseline-smoke was trained: held out were"):
        check_same_data(folder, changed)


def test_results_are_added_up(tmp_path):
    save_results(tmp_path, ssim={"published_max": 0.5})
    save_results(tmp_path, swd=3.0)
    assert read_json(tmp_path / "results.json") == {"ssim": {"published_max": 0.5}, "swd": 3.0}
