import io
from base64 import b64decode

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from gan_utils.figures import (
    PICTURE_WIDTH,
    epoch_image_path,
    image_grid,
    plot_judgements,
    plot_losses,
    plot_ssim,
    plot_step_losses,
    read_history,
    save_image_grid,
    save_progress_gif,
    show_epochs,
    show_figure,
    show_images,
    show_picture,
)

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
    grid = image_grid(images, columns=3, gap=1)
    assert grid.shape == (9, 17)
    assert grid.dtype == np.uint8
    np.testing.assert_array_equal(grid[5:9, 6:11], np.round((images[4, :, :, 0] + 1) * 127.5))
    assert (grid.min(), grid.max()) == (0, 255)


def test_gif_has_a_frame_for_each_named_epoch_and_holds_the_last(run_folder):
    path = save_progress_gif(run_folder, [1, 2, 3])
    frames = imageio.imread(path)
    assert len(frames) == 3
    assert [int(frame[40, 40, 0]) for frame in frames] == pytest.approx([32, 64, 96], abs=6)  # grey levels are rounded
    with Image.open(path) as gif:
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    assert durations == [600, 600, 2000]


def test_gif_of_large_images_stays_small(tmp_path):
    save_image_grid(epoch_image_path(tmp_path, 1), np.zeros((16, 256, 256, 1)))
    assert imageio.imread(save_progress_gif(tmp_path, [1])).shape[-2] == PICTURE_WIDTH


def test_gif_of_a_single_epoch(run_folder):
    assert len(imageio.imread(save_progress_gif(run_folder, [2]))) == 1


def test_graphs_show_what_the_history_holds(run_folder):
    history = read_history(run_folder)
    losses = plot_losses(history, run_folder / "loss_graph.png").axes[0]
    assert [line.get_ydata().tolist() for line in losses.lines[:2]] == [[0.7, 0.8, 0.9], [1.4, 1.3, 1.2]]
    lines = {"black image": (0.58, 0), "held-out people": (0.6, 0.02)}
    graph = plot_ssim(history, lines, "maximum SSIM", run_folder / "ssim_graph.png").axes[0]
    assert graph.get_title() == "maximum SSIM"
    assert graph.lines[0].get_ydata().tolist() == [0.1, 0.2, 0.3]
    assert [line.get_ydata()[0] for line in graph.lines[1:]] == [0.58, 0.6]
    for name in ("loss_graph.png", "ssim_graph.png"):
        assert imageio.imread(run_folder / name).std() > 0


def test_judgements_are_drawn_where_there_are_any(tmp_path):
    (tmp_path / "history.csv").write_text(
        "epoch,generator_loss,discriminator_loss,ssim,diversity_ratio,high_frequency_ratio,nearest_ratio,swd,swd_real,"
        "seconds\n1,0.7,1.4,0.1,0.3,99,nan,40,9,5\n2,0.8,1.3,0.1,nan,nan,nan,nan,nan,9\n3,0.9,1.2,0.1,1,1,1,20,9,13\n"
    )
    figure = plot_judgements(read_history(tmp_path), tmp_path / "judgement_graph.png")
    axes = {axis.get_label(): axis for axis in figure.axes}
    lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
    assert lines["discriminator"].get_ydata().tolist() == [1.4, 1.3, 1.2]
    assert lines["diversity ratio"].get_xdata().tolist() == [1, 3]
    assert lines["diversity ratio"].get_ydata().tolist() == [0.3, 1]
    assert lines["high-frequency ratio"].get_ydata().tolist() == [8, 1]  # what lies far outside is drawn at the edge
    assert lines["generated to held-out"].get_ydata().tolist() == [40, 20]
    assert lines["training to held-out"].get_ydata().tolist() == [9, 9]
    limits = [line.get_ydata()[0] for line in axes["ratios"].lines if line.get_label().startswith("_")]
    assert limits == [2.0, 0.5, 0.7]
    assert imageio.imread(tmp_path / "judgement_graph.png").shape[:2] == (400, 700)


def test_broken_images_are_saved_without_a_warning():
    grid = image_grid(np.full((2, 8, 8, 1), np.nan))
    assert grid.dtype == np.uint8


def test_step_losses_are_drawn_one_by_one(tmp_path):
    (tmp_path / "step_losses.csv").write_text("step,generator_loss,discriminator_loss\n1,0.7,1.4\n2,0.9,1.1\n")
    generator, discriminator = plot_step_losses(tmp_path, tmp_path / "loss_plot.png").axes
    assert generator.lines[0].get_ydata().tolist() == [0.7, 0.9]
    assert discriminator.lines[0].get_ydata().tolist() == [1.4, 1.1]
    assert discriminator.lines[0].get_xdata().tolist() == [1, 2]
    assert imageio.imread(tmp_path / "loss_plot.png").std() > 0


def test_history_of_one_epoch_is_still_a_table(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,generator_loss,discriminator_loss,ssim,seconds\n1,0.7,1.4,0.1,5\n")
    assert read_history(tmp_path)["ssim"].tolist() == [0.1]


def test_history_before_the_first_epoch_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"03_train\.ipynb"):
        read_history(tmp_path)


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
