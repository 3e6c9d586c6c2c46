import dataclasses
import json

import keras
import numpy as np
import pytest

from conftest import make_akoa_folder
from gan_utils import DataError, data, read_json, write_json
from gan_utils.gan import build_gan
from gan_utils.networks import build_pair, fixed_latents, generate_images
from gan_utils.pair import save_state
from gan_utils.run_folder import check_same_data, open_run, read_history, save_results, training, what_changed
from gan_utils.settings import choose_settings


@pytest.fixture
def settings(oasis_folder, tmp_path):
    return choose_settings("brain", "smoke", data=oasis_folder, output=str(tmp_path / "runs"))


def start_run(settings, splits=None, model=None):
    """The folder of a run that is begun and left before its first epoch."""
    with training(settings, splits or data.load(settings), model or build_gan(settings)) as (folder, _):
        return folder


def make_finished_run(settings):
    folder = start_run(settings)
    (folder / "generator.keras").write_text("stands for a trained generator")
    return folder


def runs_beside(folder):
    return sorted(path for path in folder.parent.iterdir() if path != folder and path.name[0] != ".")


def make_older(folder):
    """Give the notes of a run the settings of an older version, under the names that they had then."""
    notes = read_json(folder / "run.json")
    renamed = {"evaluate_every": "judge_interval", "phantom_subjects": "simulated_people"}
    notes["settings"] = {renamed.get(name, name): value for name, value in notes["settings"].items()}
    notes["settings"]["images_on_disk"] = None
    write_json(folder / "run.json", notes)


def test_run_notes_say_how_it_was_made(settings):
    folder = start_run(settings)
    notes = read_json(folder / "run.json")
    assert folder.name == "brain-baseline-smoke"
    assert notes["settings"] == dataclasses.asdict(settings)
    assert notes["data"] == {
        "folder": settings.data,
        "simulated": False,
        "slices": {"train": 9, "validate": 6, "test": 3},
        "people": {"train": 3, "validate": 2, "test": 1},
        "held_out": {"validate": [402, 403], "test": [441]},
    }
    assert notes["versions"].keys() >= {"python", "tensorflow", "keras", "numpy"}
    assert notes["device"]
    assert "commit" in notes
    assert (notes["seed"], notes["finished"], notes["epochs_done"]) == (settings.seed, False, 0)
    assert notes["model"].keys() >= {"generator", "discriminator", "generator_loss", "discriminator_loss"}


@pytest.mark.parametrize("recipe", ["baseline", "improved"])
def test_finished_run_has_the_averaged_generator_and_how_long_it_took(recipe, oasis_folder, tmp_path):
    settings = choose_settings("brain", "smoke", recipe, oasis_folder, output=str(tmp_path / "runs"), batch_size=4)
    model = build_gan(settings)
    with training(settings, data.load(settings), model) as (folder, _):
        (folder / "history.csv").write_text("epoch,generator_loss,discriminator_loss,seconds\n1,1,1,3.5\n2,1,1,8.0\n")
        model.averaged_generator.weights[0].assign_add(model.averaged_generator.weights[0])
        save_state(model, folder, epochs_done=2)
    notes = read_json(folder / "run.json")
    images_seen = 2 * settings.steps_per_epoch * settings.batch_size
    assert (notes["seconds"], notes["images_seen"]) == (8, images_seen)
    assert notes["images_per_second"] == round(images_seen / 8, 1)
    assert (notes["epochs_done"], notes["finished"]) == (2, True)
    assert notes["settings"] == dataclasses.asdict(settings)
    loaded, latents = keras.models.load_model(folder / "generator.keras"), fixed_latents(settings)
    saved = generate_images(loaded, latents)
    assert saved == pytest.approx(generate_images(model.averaged_generator, latents), abs=1e-6)
    differs = saved != pytest.approx(generate_images(model.generator, latents), abs=1e-6)
    assert differs == (recipe == "improved")


def test_earlier_run_whose_state_was_deleted_is_kept(settings, capsys):
    for run in (1, 2, 3):
        folder = start_run(settings)
        (folder / "history.csv").write_text("epoch\n1\n")
        (folder / "image_at_epoch_0001.png").write_text(f"picture of run {run}")
    kept = runs_beside(folder)
    assert [(path / "image_at_epoch_0001.png").read_text() for path in kept] == ["picture of run 1", "picture of run 2"]
    assert kept[0].name in capsys.readouterr().out
    assert [path.name for path in folder.iterdir() if path.suffix == ".png"] == ["image_at_epoch_0001.png"]


def test_run_is_opened_with_the_settings_it_was_made_with(settings):
    changed = choose_settings("brain", "smoke", data=settings.data, output=settings.output, epochs=7, seed=5)
    folder = make_finished_run(changed)
    assert open_run(settings) == (folder, changed)


def test_run_is_evaluated_on_the_data_it_was_trained_on(settings, oasis_folder):
    """Also where the folder was found rather than named, and would be found elsewhere by now."""
    splits = data.load(settings)
    found = choose_settings("brain", "smoke", output=settings.output)
    with training(settings, splits, build_gan(settings)) as (folder, _):
        pass
    notes = read_json(folder / "run.json")
    write_json(folder / "run.json", {**notes, "settings": {**notes["settings"], "data": None}})
    (folder / "generator.keras").write_text("stands for a trained generator")
    assert open_run(found)[1].data == str(oasis_folder)


def test_phantoms_of_a_run_are_made_anew_where_they_were_deleted(settings):
    folder = make_finished_run(settings)
    notes = read_json(folder / "run.json")
    notes["data"] = {"folder": str(folder / "deleted since"), "simulated": True}
    write_json(folder / "run.json", notes)
    assert open_run(dataclasses.replace(settings, data=None))[1].data == "phantoms"


def test_missing_run_names_the_notebook_to_run(settings):
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        open_run(settings)


def test_unfinished_run_is_not_opened(settings):
    start_run(settings, data.load(settings))
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        open_run(settings)


def test_run_of_an_older_version_is_not_opened(settings):
    make_older(make_finished_run(settings))
    with pytest.raises(ValueError, match=r"brain-baseline-smoke was made by another version .*Train it again"):
        open_run(settings)


def test_run_of_an_older_version_is_kept_and_the_difference_said(settings, capsys):
    folder = make_finished_run(settings)
    make_older(folder)
    capsys.readouterr()
    assert start_run(settings, data.load(settings)) == folder
    (kept,) = runs_beside(folder)
    assert (kept / "generator.keras").exists()
    assert "judge_interval" in read_json(kept / "run.json")["settings"]
    assert read_json(folder / "run.json")["settings"] == dataclasses.asdict(settings)
    assert not (folder / "generator.keras").exists()
    said = capsys.readouterr().out
    assert "judge_interval was 5, is None" in said
    assert "evaluate_every was None, is 5" in said
    assert "phantom_subjects was None, is 10" in said
    assert f"kept in {kept.name}" in said


def test_a_patient_who_was_added_since_training_is_noticed(akoa_folder, tmp_path):
    """The seed would choose other patients to hold out, among them some that the run was trained on."""
    settings = choose_settings("knee", "smoke", data=akoa_folder, output=str(tmp_path / "runs"))
    splits = data.load(settings)
    folder = start_run(settings, splits)
    check_same_data(folder, data.load(settings))
    make_akoa_folder(akoa_folder, patients=range(1, 11))
    changed = data.load(settings)
    assert changed.test.subjects[0] != splits.test.subjects[0]
    with pytest.raises(DataError, match=r"has changed since .*knee-baseline-smoke was trained: held out were"):
        check_same_data(folder, changed)


def test_results_are_added_up(tmp_path):
    save_results(tmp_path, ssim={"published_max": 0.5})
    save_results(tmp_path, swd=3.0)
    assert read_json(tmp_path / "results.json") == {"ssim": {"published_max": 0.5}, "swd": 3.0}


def test_json_is_strict_and_says_why_a_number_is_missing(tmp_path):
    nan, infinite = float("nan"), float("-inf")
    levels = {32: nan, "mean": np.float64("inf")}
    save_results(tmp_path, swd=nan, swd_reason="no images", ratio=infinite, levels=levels, several=[1.5, (nan,)])
    text = (tmp_path / "results.json").read_text()
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["swd"] is found["ratio"] is found["levels"]["32"] is found["levels"]["mean"] is None
    assert found["swd_reason"] == "no images"
    assert found["ratio_reason"] == "it came out as -inf"
    assert found["levels"]["32_reason"] == "it came out as nan"
    assert found["levels"]["mean_reason"] == "it came out as inf"
    assert found["several"] == [1.5, [None]]


def test_the_reason_goes_when_the_number_comes(tmp_path):
    save_results(tmp_path, swd=float("nan"), ssim=float("nan"))
    save_results(tmp_path, swd=3.0)
    expected = {"swd": 3.0, "ssim": None, "ssim_reason": "it came out as nan"}
    assert read_json(tmp_path / "results.json") == expected


def test_history_of_one_epoch_is_still_a_table(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,generator_loss,discriminator_loss,ssim,seconds\n1,0.7,1.4,0.1,5\n")
    assert read_history(tmp_path)["ssim"].tolist() == [0.1]


def test_history_before_the_first_epoch_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        read_history(tmp_path)


def test_history_keeps_the_names_of_metrics(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,mean grey level,edge-density\n1,0.5,2\n")
    history = read_history(tmp_path)
    assert history.dtype.names == ("epoch", "mean grey level", "edge-density")
    assert history["mean grey level"] == [0.5]


def test_a_generator_that_takes_more_than_latents_is_refused_before_training(settings):
    latents, labels = keras.Input((settings.latent_dim,)), keras.Input((1,))
    both = keras.layers.Concatenate()([latents, labels])
    generator = keras.Model([latents, labels], build_pair(settings)[0](keras.layers.Dense(settings.latent_dim)(both)))
    with (
        pytest.raises(ValueError, match="latents alone, and your generator takes more"),
        training(settings, data.load(settings), build_gan(settings, generator=generator)),
    ):
        pass


def test_a_changed_loss_is_named_beside_changed_settings():
    model = {"generator": ["a"], "generator_loss": ["old"], "discriminator_loss": ["same"]}
    before = {"settings": {"seed": 1, "loss": "cross_entropy"}, "data": {"folder": "data"}, "model": model}
    now = {**before, "settings": before["settings"] | {"seed": 2}, "model": model | {"generator_loss": ["new"]}}
    assert what_changed(before, now) == ["seed was 1, is 2", "another generator_loss"]
    now["model"] = now["model"] | {"generator": ["b"]}
    assert what_changed(before, now)[1:] == ["another generator", "another generator_loss"]
    now["settings"] = {"seed": 1, "loss": "relativistic"}  # both follow from it
    assert what_changed(before, now) == ["loss was cross_entropy, is relativistic"]
