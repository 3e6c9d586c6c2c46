"""The command that shows long runs: generated images and metrics alone, and how both follow training."""

import json

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
import pytest

from gan_utils.metrics import BEST
from scripts import publish_long_runs
from scripts.publish_long_runs import FRAMES, FRONT, Growth, plot_front, plot_growth, spread

pytestmark = pytest.mark.usefixtures("close_figures")
EPOCHS, IMAGES, STEP = 8, 400, 16  # STEP between grey levels, more than a GIF rounds off


def make_run(folder, experiment="brain", recipe="baseline", epochs=EPOCHS):
    """A run on real scans, evaluated; each grid of its epochs is as grey as its number."""
    folder.mkdir(parents=True)
    data = {"folder": "elsewhere", "simulated": False, "held_out": {"test": [441]}}
    data |= {"slices": {"train": 9}, "people": {"train": 3}}
    settings = {"experiment": experiment, "recipe": recipe, "image_size": 8, "data": "elsewhere", "output": "elsewhere"}
    notes = {"data": data, "settings": settings, "images_seen": IMAGES * epochs, "epochs_done": epochs}
    (folder / "run.json").write_text(json.dumps(notes))
    rows = [f"{epoch},{100 / epoch},20,{60 * epoch}" for epoch in range(1, epochs + 1)]
    (folder / "history.csv").write_text("\n".join([f"epoch,{BEST},{BEST}_real,processor_seconds", *rows]))
    for file in ("SSIM.txt", "results.json", "latent_walk.gif"):
        (folder / file).write_text(file)
    for file in ("real_batch.png", "example_output.png"):
        imageio.imwrite(folder / file, np.full((38, 38), 99, np.uint8))
    for epoch in range(1, epochs + 1):
        imageio.imwrite(folder / f"image_at_epoch_{epoch:04d}.png", np.full((38, 38), min(epoch * STEP, 255), np.uint8))
    return folder


@pytest.fixture
def project(monkeypatch, tmp_path):
    monkeypatch.setattr(publish_long_runs, "PROJECT_FOLDER", tmp_path)
    make_run(tmp_path / "epoch_images" / "brain-baseline-full")
    return tmp_path


def test_no_scan_and_nothing_about_where_scans_lie_is_shown(project):
    publish_long_runs.main(["brain-baseline-full"])
    shown = project / "epoch_images" / "showcase" / "brain-baseline-full"
    files = {"example_output.png", "SSIM.txt", "history.csv", "results.json", "model_progress.gif", "run.json"}
    assert {path.name for path in shown.iterdir()} == files
    text = (shown / "run.json").read_text()
    assert "elsewhere" not in text
    assert "441" not in text
    assert (project / "epoch_images" / "showcase" / "growth.png").exists()


def test_a_run_that_was_not_evaluated_is_refused_and_what_is_shown_stays(project):
    publish_long_runs.main(["brain-baseline-full"])
    (project / "epoch_images" / "brain-baseline-full" / "results.json").unlink()
    with pytest.raises(SystemExit, match=r"no results\.json.*ONLY=4"):
        publish_long_runs.main(["brain-baseline-full"])
    assert (project / "epoch_images" / "showcase" / "brain-baseline-full" / "results.json").exists()


def test_frames_are_denser_at_first():
    assert spread(5, FRAMES) == [1, 2, 3, 4, 5]
    chosen = spread(100, FRAMES)
    assert (chosen[0], chosen[-1]) == (1, 100)
    assert len(chosen) <= FRAMES
    assert (np.diff(np.diff(chosen)) >= -1).all()


def test_pictures_are_of_the_epoch_that_had_seen_as_many_images(project):
    growth = shown(project / "epoch_images" / "brain-baseline-full")
    assert growth.images.tolist() == [IMAGES * epoch for epoch in range(1, EPOCHS + 1)]
    np.testing.assert_allclose(growth.picture(3 * IMAGES + 10), np.full((8, 8), 3 * STEP), atol=9)
    assert (growth.picture(2 * EPOCHS * IMAGES) == 255).all()  # it had ended


def shown(run):
    """`Growth` of a run in the showcase."""
    publish_long_runs.main([run.name])
    return Growth(run.parent / "showcase" / run.name)


def test_both_recipes_are_on_one_axis_over_images_and_over_hours(project):
    runs = project / "epoch_images"
    longer = make_run(runs / "brain-improved-full", recipe="improved", epochs=2 * EPOCHS)
    figure = plot_growth([[shown(runs / "brain-baseline-full"), shown(longer)]])
    by_images, by_hours = [axis for axis in figure.get_axes() if axis.get_xlabel()]
    assert [line.get_label() for line in by_images.lines] == ["baseline", "improved", "real images"]
    assert by_images.lines[1].get_xdata()[-1] == 2 * EPOCHS * IMAGES
    assert by_hours.lines[0].get_xdata()[-1] == pytest.approx(EPOCHS / 60)


def test_runs_on_phantoms_stand_in_a_column_of_their_own(project, monkeypatch):
    columns = []
    monkeypatch.setattr(
        publish_long_runs, "plot_growth", lambda pairs: columns.append(pairs) or plt.figure(figsize=(1, 1))
    )
    for name in ("brain-improved-full-phantoms", "knee-baseline-full"):
        shown(make_run(project / "epoch_images" / name, name.split("-")[0]))
    shown(project / "epoch_images" / "brain-baseline-full")
    assert [len(pair) for pair in columns[-1]] == [1, 1, 1]  # OASIS, phantoms, knees


def test_the_front_page_shows_phantoms_and_no_scan(project):
    run = project / "epoch_images" / "brain-baseline-full"
    showcase = project / "epoch_images" / "showcase"
    publish_long_runs.main([run.name])
    assert "not shown" in plot_front(showcase).axes[0].texts[0].get_text()
    notes = json.loads((run / "run.json").read_text())
    notes["data"]["simulated"] = True
    (run / "run.json").write_text(json.dumps(notes))
    publish_long_runs.main([run.name])
    shown = plot_front(showcase).axes
    assert [axis.get_title() for axis in shown[: len(FRONT)]] == list(FRONT)
    assert not shown[0].texts
    assert (shown[0].images[0].get_array() == 99).all()
