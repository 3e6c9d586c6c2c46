"""A metric of your own is one more entry of METRICS: history, graphs, tables and warnings have it at once."""

import csv

import numpy as np
import pytest
from test_ablation import made_up_row
from test_resume import assert_same_run, settings_of

from conftest import make_oasis_folder
from gan_utils import data
from gan_utils.ablation import Variant, show_ablation
from gan_utils.callbacks import EVALUATED_IMAGES
from gan_utils.evaluator import Evaluator
from gan_utils.image_statistics import as_images
from gan_utils.metrics import METRICS, Metric, describe_warnings, find_warnings, warnings_of_run
from gan_utils.networks import fixed_latents, generate_images
from gan_utils.plots import plot_history, show_metrics
from gan_utils.run_folder import read_history
from scripts import train as train_script
from scripts.ablation import train_variant
from scripts.train import train

FOG = "Fog: the generated images are too bright."
DARK = "Night: the generated images are too dark."

pytestmark = [pytest.mark.usefixtures("close_figures"), pytest.mark.slow]


def brightness(images, real):
    return as_images(images).mean(axis=(1, 2))


@pytest.fixture
def add_metric(monkeypatch):
    """Adds "brightness" to METRICS, for one test; options are those of `Metric`."""

    def add(**options):
        limits = {"low": -0.9, "below": DARK, "high": 0.9, "above": FOG}
        metric = Metric("mean brightness", brightness, **{"target": None, **limits, **options})
        monkeypatch.setitem(METRICS, "brightness", metric)

    return add


@pytest.fixture
def slices(tmp_path):
    return make_oasis_folder(tmp_path / "slices")


def raw_rows(folder):
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_history_graphs_and_warnings_of_a_run_have_it(add_metric, slices, tmp_path, monkeypatch, capsys):
    add_metric(high=-0.99)  # every image that is not black is too bright
    models, build = [], train_script.build_gan
    monkeypatch.setattr(train_script, "build_gan", lambda settings: models.append(build(settings)) or models[-1])
    settings = settings_of("brain", "baseline", slices, tmp_path / "runs", evaluate_every=3)
    folder = train(settings)
    history, splits = read_history(folder), data.load(settings)

    assert history["epoch"][np.isfinite(history["brightness"])].tolist() == [1, 3, 4]
    assert [row["brightness"] == "" for row in raw_rows(folder)] == [False, True, False, False]
    images = generate_images(models[0].averaged_generator, fixed_latents(settings, EVALUATED_IMAGES))
    assert history["brightness"][-1] == pytest.approx(images.mean(), abs=1e-4)
    assert history["brightness_real"][-1] == pytest.approx(splits.validate.images.mean() / 127.5 - 1, abs=1e-4)

    panels = {axis.get_title(): axis for axis in plot_history(history).axes if axis.axison}
    generated, real, *limits = panels["mean brightness"].lines
    assert generated.get_xdata().tolist() == [1, 3, 4]
    assert generated.get_ydata().tolist() == history["brightness"][[0, 2, 3]].tolist()
    assert real.get_ydata()[0] == history["brightness_real"][-1]
    assert [line.get_ydata()[0] for line in limits] == [-0.9, -0.99]

    assert warnings_of_run(history)[FOG] == [3, 4]
    said = capsys.readouterr().err
    assert f"Warning in epoch 3. {FOG}" in said
    assert f"- from epoch 3 on, in 2 of 4: {FOG}" in said


def test_a_metric_of_every_epoch_is_measured_in_each_and_shown_with_the_losses(add_metric, slices, tmp_path, capsys):
    add_metric(every_epoch=True)
    folder = train(settings_of("brain", "baseline", slices, tmp_path / "runs", epochs=3))
    history = read_history(folder)
    assert np.isfinite(history["brightness"]).all()
    assert np.isnan(history["swd"][1])
    assert f"mean brightness {history['brightness'][-1]:.3f}" in capsys.readouterr().err


def test_both_limits_raise_their_warnings(add_metric):
    add_metric()
    assert find_warnings({"brightness": 0.95}) == [FOG]
    assert find_warnings({"brightness": -0.95}) == [DARK]
    assert find_warnings({"brightness": 0.0}) == []


def test_tables_have_it_beside_real_images(add_metric, slices):
    add_metric(digits=3)
    settings = settings_of("brain", "baseline", slices, "unused")
    splits = data.load(settings)
    evaluator = Evaluator(splits.validate.images, splits.train.images, settings)
    values = evaluator(np.full((16, 32, 32, 1), 0.25, np.float32))
    real = as_images(splits.validate.images).mean(axis=(1, 2))
    expected = f"| mean brightness | 0.250 ± 0.000 | {real.mean():.3f} ± {real.std():.3f} | as real |"
    assert show_metrics(values).data.splitlines()[-1] == expected
    of_subjects = evaluator.by_subject(np.zeros((16, 32, 32, 1), np.float32), splits.validate.subjects)
    assert len(of_subjects["brightness"]) == len(of_subjects["brightness_real"]) == 2


def test_ablation_has_it_where_every_row_does(add_metric, slices):
    add_metric()
    settings = settings_of("brain", "baseline", slices, "unused")
    splits = data.load(settings)
    evaluator = Evaluator(splits.validate.images, splits.train.images, settings)
    row, _ = train_variant(Variant("baseline", settings, {}, "recipe"), splits, evaluator, 0.1)
    made_up = made_up_row("networks", brightness=0.25, brightness_real=0.5)
    header, _, first, second, real = (line.split(" | ") for line in show_ablation([row, made_up]).data.splitlines())
    place = header.index("mean brightness")
    assert first[place] == f"{row['brightness']:.2f}"
    assert second[place] == "0.25"
    assert real[place] == f"{row['brightness_real']:.2f}"
    assert "mean brightness" not in show_ablation([row, made_up_row("networks")]).data  # measured before it was added


def test_a_run_that_is_continued_has_blank_cells_before_and_changes_in_nothing_else(add_metric, slices, tmp_path):
    whole = train(settings_of("brain", "improved", slices, tmp_path / "whole", evaluate_every=1))
    folder = train(settings_of("brain", "improved", slices, tmp_path / "cut", evaluate_every=1, epochs=2))
    before = raw_rows(folder)
    add_metric()
    train(settings_of("brain", "improved", slices, tmp_path / "cut", evaluate_every=1))
    after = raw_rows(folder)
    added = ("brightness", "brightness_real")
    assert [[row.pop(name) == "" for row in after] for name in added] == [[True, True, False, False]] * 2
    assert after[:2] == before
    assert_same_run(folder, whole)  # every column of a run that never heard of it, networks and pictures
    history = read_history(folder)
    assert describe_warnings(history) == describe_warnings(read_history(whole))
    panels = {axis.get_title(): axis for axis in plot_history(history).axes if axis.axison}
    assert panels["mean brightness"].lines[0].get_xdata().tolist() == [3, 4]


def test_a_metric_that_is_removed_keeps_its_column(add_metric, slices, tmp_path, monkeypatch):
    add_metric()
    folder = train(settings_of("brain", "baseline", slices, tmp_path, evaluate_every=1, epochs=2))
    before = raw_rows(folder)
    monkeypatch.delitem(METRICS, "brightness")
    train(settings_of("brain", "baseline", slices, tmp_path, evaluate_every=1, epochs=3))
    after = raw_rows(folder)
    assert after[:2] == before
    assert after[2]["brightness"] == after[2]["brightness_real"] == ""
    assert list(after[0])[-1] == "seconds"


def test_epochs_before_a_metric_of_every_epoch_was_added_raise_no_warning(add_metric, slices, tmp_path):
    train(settings_of("brain", "baseline", slices, tmp_path, epochs=1))
    add_metric(every_epoch=True)
    folder = train(settings_of("brain", "baseline", slices, tmp_path, epochs=2))
    assert describe_warnings(read_history(folder)) == "Warnings in 2 epochs: none"
