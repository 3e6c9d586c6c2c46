import dataclasses
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest

from conftest import OF_IMAGES
from gan_utils import PROJECT_FOLDER, ablation, data, read_json, write_json
from gan_utils.ablation import (
    FAILURES,
    PARTS,
    Variant,
    find_ablation,
    list_variants,
    read_ablation,
    show_ablation,
    show_grids,
)
from gan_utils.data import DATASETS
from gan_utils.evaluator import Evaluator
from gan_utils.metrics import METRICS
from gan_utils.plots import save_image_grid
from gan_utils.settings import choose_settings
from scripts import ablation as script
from scripts.ablation import run_ablation, train_for, train_variant

pytestmark = pytest.mark.slow

CASES = [(experiment, profile) for experiment, dataset in DATASETS.items() for profile in dataset.profiles]


@pytest.fixture
def tiny(oasis_folder, tmp_path, monkeypatch):
    """Arguments of an ablation with two variants and no others, of a tenth of a second each."""
    monkeypatch.setattr(
        ablation, "list_variants", lambda *arguments, **changes: list_variants(*arguments, **changes)[:2]
    )
    monkeypatch.setattr(script, "EVALUATED_IMAGES", 16)
    return ("brain", "smoke", oasis_folder, 0.1), {"batch_size": 4, "output": str(tmp_path / "runs")}


@pytest.mark.parametrize(("experiment", "profile"), CASES)
def test_variants_are_both_recipes_and_the_improved_one_without_each_part(experiment, profile):
    baseline, improved, *others = list_variants(experiment, profile)
    assert baseline.settings == choose_settings(experiment, profile, "baseline")
    assert improved.settings == choose_settings(experiment, profile, "improved")
    without = [variant for variant in others if variant.kind == "without"]
    assert [variant.name for variant in without] == [f"without {part}" for part in PARTS]
    for variant in others:
        assert variant.settings == dataclasses.replace(improved.settings, **variant.changed)
    for variant in without:
        assert variant.settings != improved.settings


def test_what_the_settings_leave_out_already_is_no_variant():
    names = [variant.name for variant in list_variants("brain", "smoke", translation=0.0)]
    assert "without translation" not in names
    assert "without averaged generator" in names


def test_three_variants_are_failures_each_with_its_limits():
    failures = [variant for variant in list_variants("brain", "smoke") if variant.kind == "failure"]
    assert [variant.name for variant in failures] == list(FAILURES)
    limits = [(variant.training_images, variant.enough_images) for variant in failures]
    assert limits == [(None, 4800), (None, 4000), (16, None)]


def test_clock_starts_after_the_first_step_and_stops_training_in_time(oasis_folder):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    left = []
    _, measured = train_for(0.3, data.load(settings).train.images, settings, show=left.append)
    assert left[0] == pytest.approx(0.3, abs=0.01)
    assert 0.3 <= measured["seconds"] < 1.5
    assert measured["images_seen"] == 4 * len(left)


def test_training_stops_when_it_has_seen_enough_images(oasis_folder):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    _, measured = train_for(60, data.load(settings).train.images, settings, enough_images=12)
    assert measured["images_seen"] == 12


def test_steps_that_share_a_call_are_all_counted(oasis_folder):
    settings = choose_settings(
        "brain", "smoke", data=oasis_folder, batch_size=4, steps_per_epoch=8, steps_per_execution=4
    )
    _, measured = train_for(60, data.load(settings).train.images, settings, enough_images=48)
    assert measured["images_seen"] == 48
    assert measured["images_per_second"] == pytest.approx(32 / measured["seconds"], rel=0.2)  # without the first call


@pytest.mark.parametrize(("changes", "error"), [
    ({"image_size": 48, "generator_input_dim": 6}, "generator_input_dim 8"),
    ({"profile": "fast"}, "profile .fast. is not known"),
])  # fmt: skip
def test_a_variant_that_cannot_be_trained_is_refused_before_the_first_is(changes, error, oasis_folder, monkeypatch):
    monkeypatch.setattr(script, "train_variant", None)
    with pytest.raises(ValueError, match=error):
        run_ablation("brain", changes.pop("profile", "smoke"), oasis_folder, **changes)


def test_a_part_with_a_misspelt_setting_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(PARTS, "small batches", {"batchsize": 32})
    with pytest.raises(ValueError, match=r"batchsize \(did you mean batch_size\?\)"):
        list_variants("brain", "smoke")


def test_losses_are_means_of_the_last_quarter(oasis_folder, monkeypatch):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    losses, build = [], script.build_gan

    def watched(settings):
        model = build(settings)
        step = model.train_step
        model.run_eagerly = True
        model.train_step = lambda batch: losses.append(step(batch)) or losses[-1]
        return model

    monkeypatch.setattr(script, "build_gan", watched)
    _, measured = train_for(60, data.load(settings).train.images, settings, enough_images=32)
    assert len(losses) == 8
    for name in ("generator_loss", "discriminator_loss"):
        assert measured[name] == pytest.approx(np.mean([float(each[name]) for each in losses[-2:]]), abs=1e-4)


def test_images_are_evaluated_against_validation_subjects_and_the_test_subjects_stay_unseen(oasis_folder, monkeypatch):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    splits = dataclasses.replace(data.load(settings), test=None)
    seen = []

    def recording_evaluator(held_out, training, *arguments):
        seen.append((held_out, len(training)))
        return Evaluator(held_out, training, *arguments)

    monkeypatch.setattr(script, "Evaluator", recording_evaluator)
    monkeypatch.setattr(script, "EVALUATED_IMAGES", 16)
    row, images = train_variant(Variant("few", settings, {}, "failure", training_images=4), splits, None, 0.1)
    assert len(seen) == 1
    assert seen[0][0] is splits.validate.images
    assert seen[0][1] == 4
    assert images.shape == (16, 32, 32, 1)
    assert {name for name in row if name in METRICS} == set(OF_IMAGES)
    assert {f"{name}_real" for name in OF_IMAGES} <= row.keys()


def test_interrupted_ablation_continues_where_it_was(tiny, monkeypatch):
    arguments, changes = tiny
    trained = []

    def interrupted(variant, *others):
        trained.append(variant.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train_variant(variant, *others)

    monkeypatch.setattr(script, "train_variant", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ablation(*arguments, **changes)
    folder = run_ablation(*arguments, **changes)
    assert trained == ["baseline", "improved", "improved"]
    rows = read_ablation(folder)
    assert [row["name"] for row in rows] == ["baseline", "improved"]
    assert all((folder / row["picture"]).exists() for row in rows)
    assert {"commit", "device", "seed", "settings", "started", "versions"} <= read_json(folder / "run.json").keys()
    assert len(show_ablation(rows).data.splitlines()) == 2 + len(rows) + 1


def test_ablation_with_other_settings_is_kept_under_another_name(tiny, capsys):
    arguments, changes = tiny
    folder = run_ablation(*arguments, **changes)
    run_ablation(*arguments, **changes, seed=2)
    assert "The earlier ablation is kept" in capsys.readouterr().out
    assert len([path for path in folder.parent.iterdir() if (path / "results.json").exists()]) == 2


MEASURED = ("swd", "diversity_ratio", "high_frequency_ratio", "nearest_ratio")


def made_up_row(name, kind="recipe", **values):
    row = {"name": name, "kind": kind, "changed": {"beta_1": 0.5}, "training_images": None, "enough_images": None}
    row |= dict.fromkeys(MEASURED, 1.5) | {f"{name}_real": 1.0 for name in MEASURED}
    row |= {"generator_loss": 1.0, "discriminator_loss": 1.0, "images_seen": 3000, "images_per_second": 250.0}
    return {**row, "alarms": [], "picture": "grid.png", **values}


def test_tables_and_grids_show_every_row(tmp_path):
    save_image_grid(tmp_path / "grid.png", np.zeros((16, 32, 32, 1)))
    rows = [made_up_row("improved"), made_up_row("collapse", "failure", alarms=["Collapse: all alike."])]
    lines = show_ablation(rows).data.splitlines()
    assert "| improved | beta_1 0.5 | 250 | 1.00, 1.00 | 1.50 | 1.50 | 1.50 | 1.50 | none |" in lines
    assert "| collapse | beta_1 0.5 | 250 | 1.00, 1.00 | 1.50 | 1.50 | 1.50 | 1.50 | Collapse: all alike. |" in lines
    assert lines[-1] == "| held-out real subjects | none | none | none | 1.00 | 1.00 | 1.00 | 1.00 | none |"
    figure = show_grids(tmp_path, rows)
    assert [axis.get_title() for axis in figure.axes] == ["improved", "collapse"]
    assert figure.axes[0].images[0].get_array().shape == (4 * 34 - 2, 2 * 34 - 2)
    plt.close(figure)


def test_the_table_says_what_a_variant_was_limited_to():
    text = show_ablation([made_up_row("few", training_images=16), made_up_row("short", enough_images=4000)]).data
    assert "beta_1 0.5, training images 16" in text
    assert "beta_1 0.5, stopped after images 4000" in text


def test_what_could_not_be_computed_is_shown_as_not_measured(tmp_path):
    row = made_up_row("baseline") | {"swd": float("nan"), "generator_loss": float("nan")}
    write_json(tmp_path / "results.json", [row])
    (line,) = show_ablation(read_ablation(tmp_path)).data.splitlines()[2:-1]
    assert line.count("not measured") == 2


@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_the_ablation_that_comes_with_the_project_is_shown(experiment):
    """Its rows were measured by an older version."""
    rows = read_ablation(PROJECT_FOLDER / "epoch_images" / "showcase" / f"ablation-{experiment}-quick")
    assert len(show_ablation(rows).data.splitlines()) == 2 + len(rows) + 1


def test_missing_results_say_what_to_run(tmp_path):
    settings = choose_settings("knee", output=str(tmp_path))
    assert find_ablation(settings).name == "ablation-knee-quick"
    assert find_ablation(settings).parent.name == "showcase"
    with pytest.raises(FileNotFoundError, match="make ablation EXPERIMENT=knee"):
        read_ablation(tmp_path / "ablation-knee-quick")


def test_your_own_ablation_comes_before_that_of_the_project(tmp_path):
    own = tmp_path / "ablation-knee-smoke"
    own.mkdir()
    (own / "results.json").write_text(json.dumps([made_up_row("baseline")]))
    assert find_ablation(choose_settings("knee", "smoke", output=str(tmp_path))) == own
    assert [row["name"] for row in read_ablation(own)] == ["baseline"]
