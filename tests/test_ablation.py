import dataclasses
import json
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gan_utils.ablation import training as ablation
from gan_utils.ablation.figures import plot_ablation, show_ablation, show_changes, show_failures, show_grids
from gan_utils.ablation.steps import GROUPS, LENGTH, Step, steps, steps_beside
from gan_utils.ablation.training import StopAfter, find_ablation, read_ablation, run_ablation, run_step, train_for
from gan_utils.datasets import load_slices
from gan_utils.realism import Judge
from gan_utils.settings import EXPERIMENTS, IMPROVED, choose_settings

CASES = [(experiment, profile) for experiment in EXPERIMENTS for profile in ("smoke", "quick", "full")]


def few_steps(*arguments, **changes):
    return steps(*arguments, **changes)[:2]


@pytest.fixture
def tiny(oasis_folder, tmp_path, monkeypatch):
    """Arguments of an ablation with two steps and no others, of a tenth of a second each."""
    monkeypatch.setattr(ablation, "steps", few_steps)
    monkeypatch.setattr(ablation, "steps_beside", lambda improved: [])
    monkeypatch.setattr(ablation, "JUDGED_IMAGES", 16)
    return ("brain", "smoke", oasis_folder, 0.1), {"batch_size": 4, "output": str(tmp_path / "runs")}


@pytest.mark.parametrize(("experiment", "profile"), CASES)
def test_chain_leads_from_the_baseline_to_the_improved_recipe(experiment, profile):
    chain = steps(experiment, profile)
    baseline, improved = (choose_settings(experiment, profile, recipe) for recipe in ("baseline", "improved"))
    lengths = {name: getattr(improved, name) for name in LENGTH}
    assert chain[0].settings == dataclasses.replace(baseline, **lengths)
    assert chain[-1].settings == dataclasses.replace(improved, recipe="baseline")


@pytest.mark.parametrize(("experiment", "profile"), CASES)
def test_each_step_differs_from_the_one_before_by_its_group_only(experiment, profile):
    chain = steps(experiment, profile)
    assert len(chain) > 1
    for before, step in pairwise(chain):
        first, second = dataclasses.asdict(before.settings), dataclasses.asdict(step.settings)
        differing = {name: second[name] for name in first if first[name] != second[name]}
        assert differing == step.changed
        assert differing
        assert differing.keys() <= set(GROUPS[step.name])


def test_every_setting_of_the_improved_recipe_is_in_one_group():
    grouped = [*LENGTH, *(name for group in GROUPS.values() for name in group)]
    assert len(grouped) == len(set(grouped))
    assert set(IMPROVED) <= set(grouped)


def test_beside_the_chain_stand_another_discriminator_and_three_failures():
    beside = list(steps_beside(choose_settings("brain", "smoke", "improved", r1_gamma=0.1)))
    assert [step.kind for step in beside] == ["alternative", "failure", "failure", "failure"]
    assert beside[0].settings.discriminator_batch_norm
    assert beside[0].settings.r1_gamma == 0
    assert beside[-1].training_images == 16


def test_clock_starts_after_the_first_step_and_stops_training_in_time(oasis_folder):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    left = []
    _, measured = train_for(0.3, load_slices(settings).train.images, settings, show=left.append)
    assert left[0] == pytest.approx(0.3, abs=0.01)
    assert 0.3 <= measured["seconds"] < 1.5
    assert measured["images_seen"] == 4 * len(left)


def test_training_stops_when_it_has_seen_enough_images(oasis_folder):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    _, measured = train_for(60, load_slices(settings).train.images, settings, enough_images=12)
    assert measured["images_seen"] == 12


def test_losses_are_means_of_the_last_quarter(oasis_folder, monkeypatch):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    kept = []

    class Watched(StopAfter):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(self)

    monkeypatch.setattr(ablation, "StopAfter", Watched)
    _, measured = train_for(60, load_slices(settings).train.images, settings, enough_images=32)
    expected = np.mean(kept[0].losses[-2:], axis=0)
    assert [measured["generator_loss"], measured["discriminator_loss"]] == pytest.approx(expected, abs=1e-4)


def test_images_are_judged_against_validation_people_and_the_test_people_stay_unseen(oasis_folder, monkeypatch):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    data = dataclasses.replace(load_slices(settings), test=None)
    seen = []

    def recording_judge(held_out, training, *arguments):
        seen.append((held_out, len(training)))
        return Judge(held_out, training, *arguments)

    monkeypatch.setattr(ablation, "Judge", recording_judge)
    monkeypatch.setattr(ablation, "JUDGED_IMAGES", 16)
    run_step(Step("few", settings, {}, "failure", training_images=4), data, None, 0.1)
    assert seen[0][0] is data.validate.images
    assert seen[0][1] == 4


def test_interrupted_ablation_goes_on_where_it_was(tiny, monkeypatch):
    arguments, changes = tiny
    trained = []

    def interrupted(step, *others):
        trained.append(step.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return run_step(step, *others)

    monkeypatch.setattr(ablation, "run_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_ablation(*arguments, **changes)
    folder = run_ablation(*arguments, **changes)
    assert trained == ["baseline", "networks", "networks"]
    rows = read_ablation(folder)
    assert [row["name"] for row in rows] == ["baseline", "networks"]
    assert all((folder / row["picture"]).exists() for row in rows)
    assert {"commit", "device", "seed", "settings", "started", "versions"} <= json.loads(
        (folder / "run.json").read_text()
    ).keys()


def test_ablation_with_other_settings_is_kept_under_another_name(tiny, capsys):
    arguments, changes = tiny
    folder = run_ablation(*arguments, **changes)
    run_ablation(*arguments, **changes, seed=2)
    assert "The earlier ablation is kept" in capsys.readouterr().out
    assert len([path for path in folder.parent.iterdir() if (path / "results.json").exists()]) == 2


def made_up_row(name, kind="step", **figures):
    judged = ("swd", "diversity_ratio", "high_frequency_ratio", "nearest_ratio")
    row = {"name": name, "kind": kind, "changed": {"beta_1": 0.5}, "training_images": None, "enough_images": None}
    row |= dict.fromkeys(judged, 1.5) | {f"{name}_real": 1.0 for name in judged}
    row |= {"generator_loss": 1.0, "discriminator_loss": 1.0, "images_seen": 3000, "images_per_second": 250.0}
    return {**row, "alarms": [], "picture": "grid.png", **figures}


def test_figure_has_a_dot_for_each_step_and_the_line_of_real_people():
    rows = [made_up_row("baseline"), made_up_row("networks"), made_up_row("other", "alternative")]
    figure = plot_ablation([*rows, made_up_row("collapse", "failure", diversity_ratio=0.0)])
    axis = figure.axes[1]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["baseline", "+ networks", "or: other"]
    dots = [line for line in axis.lines if line.get_marker() in ("o", "D")]
    assert [dot.get_ydata()[0] for dot in dots] == [0, 1, 2]
    assert figure.get_facecolor() == (1, 1, 1, 1)
    plt.close(figure)


def test_tables_and_grids_show_every_row(oasis_folder, tmp_path):
    ablation.save_image_grid(tmp_path / "grid.png", np.zeros((16, 32, 32, 1)))
    rows = [made_up_row("networks"), made_up_row("collapse", "failure", alarms=["Collapse: all alike."])]
    assert "beta_1 0.5" in show_ablation(rows).data
    assert "Collapse: all alike." in show_failures(rows[1:]).data
    assert "kernel_size" in show_changes(steps("brain", "quick")).data
    figure = show_grids(tmp_path, rows)
    assert len(figure.axes) == 2
    plt.close(figure)


def test_missing_results_say_what_to_run(tmp_path):
    settings = choose_settings("knee", output=str(tmp_path))
    assert find_ablation(settings).name == "ablation-knee-quick"
    with pytest.raises(FileNotFoundError, match="make ablation EXPERIMENT=knee"):
        read_ablation(tmp_path / "ablation-knee-quick")
