import io
from base64 import b64decode

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from conftest import OF_IMAGES
from gan_utils import plots
from gan_utils.metrics import LOSSES, METRICS
from gan_utils.plots import (
    PICTURE_WIDTH,
    epoch_image_path,
    gif_frame,
    grey_levels,
    image_grid,
    plot_history,
    plot_losses,
    plot_spectra,
    plot_ssim,
    save_gif,
    save_image_grid,
    save_progress_gif,
    show_epochs,
    show_figure,
    show_images,
    show_metrics,
    show_picture,
    show_source,
    show_table,
)
from gan_utils.run_folder import read_history

pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.fixture
def run_folder(tmp_path):
    """Grids and history of three epochs, and the grid of a fourth that belongs to no run."""
    for epoch in (1, 2, 3, 4):
        save_image_grid(epoch_image_path(tmp_path, epoch), np.full((16, 32, 32, 1), epoch / 4 - 1))
    (tmp_path / "history.csv").write_text(
        "epoch,generator_loss,discriminator_loss,ssim,seconds\n1,0.7,1.4,0.1,5\n2,0.8,1.3,0.2,9\n3,0.9,1.2,0.3,13\n"
    )
    return tmp_path


def test_grid_keeps_every_pixel():
    images = np.linspace(-1, 1, 6 * 4 * 5).reshape(6, 4, 5, 1)
    grid = image_grid(images, columns=3)
    assert grid.shape == (10, 19)
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[6:10, 7:12], np.round((images[4, :, :, 0] + 1) * 127.5))
    assert (grid.min(), grid.max()) == (0, 255)


def test_gif_shows_what_came_out_and_then_each_named_epoch(run_folder):
    path = save_progress_gif(run_folder, [1, 2, 3])
    frames = imageio.imread(path)
    assert len(frames) == 4
    grey_levels = [int(frame[40, 40, 0]) for frame in frames]
    assert grey_levels == pytest.approx([96, 32, 64, 96], abs=6)  # they are rounded
    with Image.open(path) as gif:
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    assert durations == [1000, 600, 600, 600]


def test_frames_of_a_gif_say_how_many_images_training_had_seen(run_folder):
    without = imageio.imread(save_progress_gif(run_folder, [1, 2]))
    (run_folder / "run.json").write_text('{"images_seen": 3840, "epochs_done": 4}')
    labelled = imageio.imread(save_progress_gif(run_folder, [1, 2]))
    np.testing.assert_array_equal(without[:, 16:], labelled[:, 16:])
    assert (labelled[:, :16] > 128).sum() > 2 * (without[:, :16] > 128).sum()


def test_gif_of_large_images_stays_small(tmp_path):
    save_image_grid(epoch_image_path(tmp_path, 1), np.zeros((16, 256, 256, 1)))
    assert imageio.imread(save_progress_gif(tmp_path, [1])).shape[-2] == PICTURE_WIDTH


def test_gif_of_a_single_epoch(run_folder):
    assert len(imageio.imread(save_progress_gif(run_folder, [2]))) == 1


@pytest.mark.parametrize("size", [32, 256])
def test_gif_has_no_end_and_one_pace(size, tmp_path):
    levels = (0, 64, 128, 191, 255)
    pictures = [np.full((4 * size, 4 * size), level, np.uint8) for level in levels]
    path = save_gif(tmp_path / "walk.gif", [gif_frame(picture) for picture in pictures], milliseconds=200)
    frames = imageio.imread(path)
    assert frames.shape[:3] == (5, min(4 * size, PICTURE_WIDTH), min(4 * size, PICTURE_WIDTH))
    assert frames[:, 5, 5, 0].tolist() == pytest.approx(levels, abs=9)
    with Image.open(path) as gif:
        assert (gif.info["loop"], gif.info["duration"]) == (0, 200)


def test_gif_frames_have_few_grey_levels():
    assert len(np.unique(gif_frame(np.tile(np.arange(256, dtype=np.uint8), (4, 1))))) == plots.GIF_GREY_LEVELS


def test_graphs_show_what_the_history_holds(run_folder):
    history = read_history(run_folder)
    figure = plot_losses(history, run_folder / "loss_graph.png")
    assert [axis.lines[0].get_ydata().tolist() for axis in figure.axes] == [[0.7, 0.8, 0.9], [1.4, 1.3, 1.2]]
    assert figure.axes[1].get_xlabel() == "epoch"
    lines = {"black image": (0.58, 0), "held-out subjects": (0.6, 0.02)}
    graph = plot_ssim(history, lines, "maximum SSIM", run_folder / "ssim_graph.png").axes[0]
    assert graph.get_title() == "maximum SSIM"
    assert graph.lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert [line.get_ydata()[0] for line in graph.lines[1:]] == [0.58, 0.6]
    for name in ("loss_graph.png", "ssim_graph.png"):
        assert imageio.imread(run_folder / name).std() > 0


def test_losses_of_training_steps_are_plotted_one_by_one(tmp_path):
    (tmp_path / "step_losses.csv").write_text("step,generator_loss,discriminator_loss\n1,0.7,1.4\n2,0.9,1.1\n")
    losses = np.genfromtxt(tmp_path / "step_losses.csv", delimiter=",", names=True)
    generator, discriminator = plot_losses(losses, tmp_path / "loss_plot.png").axes
    assert generator.lines[0].get_ydata().tolist() == [0.7, 0.9]
    assert discriminator.lines[0].get_ydata().tolist() == [1.4, 1.1]
    assert discriminator.lines[0].get_xdata().tolist() == [1, 2]
    assert discriminator.get_xlabel() == "training step"
    assert imageio.imread(tmp_path / "loss_plot.png").std() > 0


HISTORY = (
    "epoch,generator_loss,discriminator_loss,ssim,swd,diversity_ratio,high_frequency_ratio,nearest_ratio,ssim_real,"
    "swd_real,seconds\n1,0.7,1.4,0.1,40,0.3,99,,0.3,9,5\n2,0.8,1.3,0.1,,,,,0.3,,9\n3,0.9,1.2,0.1,20,1,1,1,0.3,9,13\n"
)


def test_history_has_a_panel_for_each_loss_and_each_metric_beside_real_images_and_limits(tmp_path):
    (tmp_path / "history.csv").write_text(HISTORY)
    figure = plot_history(read_history(tmp_path), tmp_path / "history_graph.png")
    panels = {axis.get_title(): axis for axis in figure.axes if axis.axison}
    assert list(panels) == [metric.label for metric in (*LOSSES.values(), *OF_IMAGES.values())]

    def values(name):
        line = panels[{**LOSSES, **METRICS}[name].label].lines[0]
        return line.get_xdata().tolist(), line.get_ydata().tolist()

    def horizontal(name):
        return [line.get_ydata()[0] for line in panels[{**LOSSES, **METRICS}[name].label].lines[1:]]

    assert values("discriminator_loss") == ([1, 2, 3], [1.4, 1.3, 1.2])
    assert values("ssim") == ([1, 2, 3], [0.1, 0.1, 0.1])
    assert values("swd") == ([1, 3], [40, 20])
    assert values("diversity_ratio") == ([1, 3], [0.3, 1])
    assert values("high_frequency_ratio") == ([1, 3], [8, 1])  # what is far outside is plotted at the edge
    assert values("nearest_ratio") == ([3], [1])
    assert {name: horizontal(name) for name in (*LOSSES, *OF_IMAGES)} == {
        "generator_loss": [],
        "discriminator_loss": [0.05],
        "ssim": [0.3],
        "swd": [9],
        "diversity_ratio": [1, 0.5],
        "high_frequency_ratio": [1, 2.0],
        "nearest_ratio": [1, 0.7],
    }
    assert imageio.imread(tmp_path / "history_graph.png").std() > 0


def test_history_of_an_older_run_is_plotted(run_folder):
    figure = plot_history(read_history(run_folder))
    assert [axis.get_title() for axis in figure.axes if axis.axison] == [
        "generator loss",
        "discriminator loss",
        "SSIM, as published",
    ]


def test_history_of_an_epoch_without_evaluation_is_plotted(tmp_path):
    lines = HISTORY.splitlines(keepends=True)
    (tmp_path / "history.csv").write_text(lines[0] + lines[2])
    assert len([axis for axis in plot_history(read_history(tmp_path)).axes if axis.axison]) == len(LOSSES | OF_IMAGES)


def test_broken_images_are_saved_without_a_warning():
    grid = image_grid(np.full((2, 8, 8, 1), np.nan))
    assert grid.dtype == np.uint8


def test_grey_levels_span_black_to_white():
    assert grey_levels(np.array([-2.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 128, 255, 255]


def test_images_are_shown_with_fixed_limits():
    figure = show_images([np.zeros((8, 8, 1)), np.zeros((8, 8, 1), np.uint8)], ["float", "bytes"], columns=2)
    limits = [axis.images[0].get_clim() for axis in figure.axes]
    assert limits == [(-1, 1), (0, 255)]
    assert [axis.get_title() for axis in figure.axes] == ["float", "bytes"]


def test_figure_is_shown_in_its_colours_with_words():
    figure, axis = plt.subplots()
    axis.plot([0, 1], color="red")
    drawn = io.BytesIO()
    figure.savefig(drawn)
    picture = show_figure(figure, alt='A "red" line & more')
    np.testing.assert_array_equal(Image.open(io.BytesIO(picture.data)), Image.open(drawn).convert("RGB"))
    data, metadata = picture._repr_mimebundle_()
    assert data["text/html"] == (
        f'<img src="data:image/png;base64,{data["image/png"]}" alt="A &quot;red&quot; line &amp; more">'
    )
    assert b64decode(data["image/png"]) == picture.data
    assert metadata == {"image/png": {"alt": 'A "red" line & more'}}
    assert repr(picture) == 'A "red" line & more'  # where there are no pictures
    assert not plt.get_fignums()  # else the notebook would show it once more


def test_figure_without_colours_is_light():
    images = np.random.default_rng(0).uniform(-1, 1, (6, 32, 32, 1))
    coloured = io.BytesIO()
    show_images(images).savefig(coloured)
    data = show_figure(show_images(images), alt="noise").data
    assert len(data) < 0.6 * len(coloured.getvalue())
    greys, expected = (np.asarray(Image.open(file).convert("L"), int) for file in (io.BytesIO(data), coloured))
    assert np.abs(greys - expected).max() < 4
    assert (greys.min(), greys.max()) == (0, 255)


def test_files_are_shown_as_they_are(run_folder):
    png, gif = epoch_image_path(run_folder, 1), save_progress_gif(run_folder, [1, 2])
    for path, kind in ((png, "png"), (gif, "gif")):
        picture = show_picture(path, alt="images")
        assert picture.data == path.read_bytes()
        data, metadata = picture._repr_mimebundle_()
        assert f'alt="images" width="{PICTURE_WIDTH}"' in data["text/html"]
        assert metadata == {f"image/{kind}": {"alt": "images", "width": PICTURE_WIDTH}}


def test_epochs_are_shown_with_one_column_each(run_folder):
    figure = show_epochs(run_folder, [1, 3])
    assert [axis.get_title() for axis in figure.axes] == ["epoch 1", "epoch 3"]
    assert figure.axes[0].images[0].get_array().shape == (4 * 32 + 3 * 2, 32)


def test_table_has_a_line_for_each_row():
    text = show_table(["a", "b"], [(1, "x"), (2, "y")]).data
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |", "| 2 | y |"]


def test_generated_and_real_metrics_stand_side_by_side():
    values = {"swd": 20.04, "swd_real": 15, "diversity_ratio": 0.9, "diversity_ratio_spread": 0.1, "ssim": None}
    lines = show_metrics(values).data.splitlines()
    assert len(lines) == 2 + 3  # what was not asked for has no line
    assert "| sliced Wasserstein distance | 20.0 | 15.0 | as real |" in lines
    assert "| diversity ratio | 0.90 ± 0.10 | not measured | 1 |" in lines
    assert "| SSIM, as published | not measured | not measured | as real |" in lines


def test_what_is_no_number_was_not_measured():
    nan = float("nan")
    (line,) = show_table(["a"], [("nancy", nan, f"{nan:.2f} ± {nan:.2f}", f"{-np.inf:.1f}")]).data.splitlines()[2:]
    assert line == "| nancy | not measured | not measured | not measured |"
    text = show_metrics({"swd": nan, "swd_reason": "no images", "swd_real": 15}).data
    assert "| sliced Wasserstein distance | not measured | 15.0 | as real |" in text


def test_source_is_shown_as_it_is():
    text = show_source(show_source).data
    assert text.startswith("```python\ndef show_source(thing):\n")
    assert text.endswith("```")


def test_spectra_differ_in_style_and_reach_the_corner():
    rng = np.random.default_rng(0)
    sets = {name: rng.normal(0, spread, (4, 32, 32, 1)).clip(-1, 1) for name, spread in (("a", 0.1), ("b", 0.2))}
    sets["c"] = (127.5 * (sets["a"] + 1)).round().astype(np.uint8)
    (axis,) = plot_spectra(sets).axes
    assert axis.get_yscale() == "log"
    assert axis.get_xlim() == pytest.approx((0, 0.72), abs=0.02)
    lines = axis.lines[:3]
    assert [line.get_label() for line in lines] == list(sets)
    assert len({line.get_linestyle() for line in lines}) == 3
    a, b, c = (line.get_ydata() for line in lines)
    assert a[5:].mean() == pytest.approx(0.01, rel=0.1)  # of white noise: its variance, at every frequency
    assert b[5:].mean() == pytest.approx(0.04, rel=0.1)
    np.testing.assert_allclose(c[1:], a[1:], rtol=0.05)
    assert axis.patches[0].get_x() == 0.25  # from where on frequencies are high
