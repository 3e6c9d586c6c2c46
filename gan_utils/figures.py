"""Image grids, the progress GIF and the graphs. Images are float -1..1 (black to white) unless said otherwise."""

import inspect
import textwrap
from base64 import b64encode
from html import escape
from io import BytesIO

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from gan_utils.alarms import COLLAPSE, DISCRIMINATOR_HAS_WON, LATTICE, MEMORISING
from gan_utils.runs import written_beside

UNIT_RANGE, BYTE_RANGE = {"vmin": -1, "vmax": 1}, {"vmin": 0, "vmax": 255}  # fixed: pictures can be compared
GRID_COLUMNS, GRID_GAP = 4, 2  # images in a row, grey pixels between them
PICTURE_WIDTH = 520  # pixels, of GIFs and in notebooks; larger frames only make a heavier file
GIF_GREY_LEVELS = 32
CAPTION_HEIGHT = 16  # pixels

# Blue, vermilion, green and purple of Okabe and Ito, for all graphs: colour-blind readers can tell them apart, and each
# stands out from white. No two lines of a graph differ in colour alone.
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7"])


def image_grid(images, columns=GRID_COLUMNS, gap=GRID_GAP):
    """Images side by side as one picture, pixel by pixel, with no axes and no resampling.

    Args:
        images: float (images, height, width, 1), -1..1.
        columns: images in a row.
        gap: grey pixels between them.

    Returns:
        uint8 (grid height, grid width), 0..255.
    """
    images = np.asarray(images)[..., 0]
    number, height, width = images.shape
    rows = -(-number // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 64, np.uint8)
    for index, image in enumerate(grey_levels(images)):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def grey_levels(images):
    """float -1..1 -> uint8 0..255; what lies outside is cut off."""
    levels = np.nan_to_num((images + 1) * 127.5)  # training that has blown up makes NaN, which no picture can hold
    return np.clip(levels, 0, 255).round().astype(np.uint8)


def save_image_grid(path, images):
    """Write `image_grid(images)` as a PNG file."""
    with written_beside(path) as beside:
        imageio.imwrite(beside, image_grid(images))


def epoch_image_path(folder, epoch):
    """Where the grid of an epoch lies; epochs count from 1."""
    return folder / f"image_at_epoch_{epoch:04d}.png"


def save_progress_gif(folder, epochs, seconds=12.0):
    """Join the grids of `epochs` to `model_progress.gif`, which ends on the last one for two seconds.

    Args:
        folder: the run's folder, with a grid for each epoch.
        epochs: epoch numbers in the order to show them.
        seconds: about how long the GIF runs.

    Returns:
        The path of the GIF.
    """
    epochs = list(epochs)
    frames = [captioned_frame(epoch_image_path(folder, epoch), f"epoch {epoch}") for epoch in epochs]
    milliseconds = int(np.clip(1000 * seconds / len(frames), 60, 600))
    path = folder / "model_progress.gif"
    durations = [milliseconds] * (len(frames) - 1) + [2000]
    with written_beside(path) as beside:
        imageio.imwrite(beside, frames, duration=durations if len(frames) > 1 else durations[0], loop=0)
    return path


def captioned_frame(path, caption):
    """uint8 frame of a GIF: the picture at `path` with a caption above."""
    picture = few_grey_levels(imageio.imread(path))
    frame = Image.new("L", (picture.shape[1], picture.shape[0] + CAPTION_HEIGHT))
    frame.paste(Image.fromarray(picture), (0, CAPTION_HEIGHT))
    ImageDraw.Draw(frame).text((4, 2), caption, fill=255)
    return np.asarray(frame)


def few_grey_levels(picture):
    """A picture, uint8 (height, width), for a GIF: at most PICTURE_WIDTH wide, half as heavy with fewer greys."""
    if picture.shape[1] > PICTURE_WIDTH:
        size = PICTURE_WIDTH, round(picture.shape[0] * PICTURE_WIDTH / picture.shape[1])
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    step = 255 / (GIF_GREY_LEVELS - 1)
    return (np.round(picture / step) * step).astype(np.uint8)


class Picture:
    """A picture in a notebook, with words for those who cannot see it.

    Each viewer takes the form that it can read the words from: JupyterLab 4.6 and nbconvert 7 the HTML, others the
    image with its metadata. (Of an `IPython.display.Image` the first two leave the words out, and a figure of
    matplotlib has none.)

    Args:
        data: bytes of a PNG or GIF file.
        alt: the words: what the picture shows, in one sentence.
        width: pixels on the screen; None for those of the file.
    """

    def __init__(self, data, alt, width=None):
        self.data = data
        self.alt = alt
        self.width = width

    def _repr_mimebundle_(self, include=None, exclude=None):
        kind = "image/gif" if self.data.startswith(b"GIF") else "image/png"
        data = b64encode(self.data).decode()
        attributes = {"alt": self.alt} | ({"width": self.width} if self.width else {})
        in_html = " ".join(f'{name}="{escape(str(value))}"' for name, value in attributes.items())
        return {"text/html": f'<img src="data:{kind};base64,{data}" {in_html}>', kind: data}, {kind: attributes}

    def __repr__(self):
        return self.alt


def show_figure(figure, alt):
    """Show a figure in a notebook, and close it.

    Args:
        figure: a `matplotlib.figure.Figure`.
        alt: what it shows, in one sentence, for those who cannot see it.

    Returns:
        A `Picture`; where the figure has no colour, of grey levels, which is a third as heavy.
    """
    drawn, file = BytesIO(), BytesIO()
    figure.savefig(drawn, facecolor="white")
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    if not np.ptp(np.asarray(picture), axis=-1).any():
        picture = picture.convert("L").point(lambda level: level // 4 * 4 + level // 64)  # 64 levels
    picture.save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), alt)


def show_picture(path, alt):
    """Show a PNG or GIF file in a notebook, as a `Picture`.

    Args:
        path: the file, a `pathlib.Path`.
        alt: what it shows, in one sentence, for those who cannot see it.
    """
    return Picture(path.read_bytes(), alt, PICTURE_WIDTH)


def show_images(images, titles=None, columns=8, size=1.0):
    """A figure of images, each under its title.

    Args:
        images: sequence of float (height, width, 1), -1..1, or uint8 0..255.
        titles: a text for each image, or None.
        columns: images in a row.
        size: inches an image.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = size + (0.25 if titles is not None else 0.0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * height), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        image = np.asarray(image)
        limits = BYTE_RANGE if image.dtype == np.uint8 else UNIT_RANGE
        axis.imshow(image.squeeze(), cmap="gray", interpolation=interpolation(image, size), **limits)
        if titles is not None:
            axis.set_title(titles[number], fontsize=9)
    return figure


def interpolation(image, inches):
    """Show pixels as they are where there is room; else average them, for dropped pixels make false patterns."""
    return "nearest" if image.shape[0] <= inches * plt.rcParams["figure.dpi"] else "auto"


def read_history(folder):
    """`history.csv` as a structured array with a row an epoch: history["epoch"], history["generator_loss"], ...

    Raises:
        FileNotFoundError: no epoch of this run is finished yet.
    """
    if not (folder / "history.csv").exists():
        raise FileNotFoundError(f"No epoch of {folder.name} is finished yet. Run the training cell of 03_train.ipynb.")
    return np.atleast_1d(np.genfromtxt(folder / "history.csv", delimiter=",", names=True))


def plot_losses(history, path=None):
    """Both losses over the epochs; saved as `path` where one is given. Returns the figure."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(history["epoch"], history["generator_loss"], "-", label="generator")
    axis.plot(history["epoch"], history["discriminator_loss"], "--", label="discriminator")
    axis.axhline(2 * np.log(2), color="black", linestyle=":", linewidth=1, label="discriminator that tosses a coin")
    axis.set(xlabel="epoch", ylabel="mean cross-entropy", title="Losses")
    axis.legend()
    return saved(figure, path)


RATIOS = {  # column of the history: (label, style, colour, where its alarm goes off, what that means)
    "high_frequency_ratio": ("high-frequency ratio", "s--", "C1", LATTICE, "above: lattice or noise"),
    "diversity_ratio": ("diversity ratio", "o-", "C0", COLLAPSE, "below: collapse"),
    "nearest_ratio": ("nearest ratio", "^-.", "C2", MEMORISING, "below: memorised, or blurred"),
}
RATIO_RANGE = 1 / 8, 8  # of the graph


def plot_judgements(history, path=None):
    """The losses and the light judgements of a run over its epochs, with thin lines where alarms go off.

    Ratios beyond 1/8 and 8 are drawn at the edge. Built up in notebooks/03_train.ipynb.

    Args:
        history: from `read_history`; figures that are NaN were not worked out in that epoch.
        path: where to save the figure, or None.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    panels = [["losses", "ratios"], ["distances", "ratios"]]
    figure, axes = plt.subplot_mosaic(panels, figsize=(7, 4), layout="constrained")
    judged = history[np.isfinite(history["swd_real"])]
    draw_losses(axes["losses"], history)
    draw_distances(axes["distances"], judged)
    draw_ratios(axes["ratios"], judged)
    for axis in axes.values():
        axis.set_xlim(0, max(2, history["epoch"][-1]) + 1)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return saved(figure, path)


def draw_losses(axis, history):
    axis.plot(history["epoch"], history["generator_loss"], ".-", markersize=3, label="generator")
    axis.plot(history["epoch"], history["discriminator_loss"], ".--", markersize=3, label="discriminator")
    draw_limit(axis, DISCRIMINATOR_HAS_WON, "C1", "below: the discriminator has won")
    axis.margins(y=0.35)  # room for the legend
    axis.set_ylim(bottom=0)
    axis.set_ylabel("cross-entropy")
    axis.set_title("Losses", fontsize=10)
    axis.legend(fontsize=7, loc="upper center", ncols=2)


def draw_distances(axis, judged):
    axis.plot(judged["epoch"], judged["swd"], "o-", markersize=3, label="generated to held-out")
    axis.plot(judged["epoch"], judged["swd_real"], ".:", markersize=3, color="black", label="training to held-out")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("distance")
    axis.set_title("Sliced Wasserstein distance\n(few images: larger than in notebook 4)", fontsize=9)
    axis.legend(fontsize=7)


def draw_ratios(axis, judged):
    for column, (label, style, color, limit, meaning) in RATIOS.items():
        axis.plot(judged["epoch"], np.clip(judged[column], *RATIO_RANGE), style, color=color, markersize=4, label=label)
        draw_limit(axis, limit, color, meaning, "bottom" if limit > 1 else "top")
    axis.axhline(1, color="black", linestyle=":", label="real images")
    axis.set_yscale("log", base=2)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_ylim(0.9 * RATIO_RANGE[0], 1.1 * RATIO_RANGE[1])
    axis.set_ylabel("generated over real")
    axis.set_title("Ratios to real images", fontsize=10)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)  # inside it would hide lines


def draw_limit(axis, value, color, meaning, va="bottom"):
    """A thin line where an alarm goes off, and what that means above it ("bottom" of the text) or below it ("top")."""
    axis.axhline(value, color=color, linewidth=0.8)
    axis.text(0.99, value, meaning, transform=axis.get_yaxis_transform(), fontsize=7, color="0.3", ha="right", va=va)


def plot_step_losses(folder, path=None):
    """Both losses of every training step, from `step_losses.csv`; saved as `path` where one is given.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    losses = np.atleast_1d(np.genfromtxt(folder / "step_losses.csv", delimiter=",", names=True))
    figure, axes = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
    for axis, network, color in zip(axes, ("generator", "discriminator"), ("C0", "C1"), strict=True):
        axis.plot(losses["step"], losses[f"{network}_loss"], color=color, linewidth=0.5)
        axis.set(ylabel="cross-entropy", title=f"Loss of the {network} in every step")
    axes[1].set_xlabel("training step")
    return saved(figure, path)


def plot_ssim(history, references, title, path=None):
    """The published SSIM over the epochs, between its floors and its ceiling.

    Args:
        history: from `read_history`.
        title: which SSIM the history holds.
        references: {label: (SSIM, spread)} of images that any generator has to be compared with; the spread, the
            standard deviation over draws or 0, is drawn as a band.
        path: where to save the figure, or None.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(history["epoch"], history["ssim"], "o-", markersize=3, label="generated images")
    for number, (label, (value, spread)) in enumerate(references.items()):
        color, style = f"C{number + 1}", ("--", "-.", ":", (0, (5, 1)))[number % 4]
        axis.axhline(value, color=color, linestyle=style, label=f"{label}: {value:.3f}")
        axis.axhspan(value - spread, value + spread, color=color, alpha=0.15, linewidth=0)
    axis.set(xlabel="epoch", ylabel="SSIM", title=title)
    figure.legend(loc="outside lower center", ncols=2)  # inside it would hide one of the lines
    return saved(figure, path)


def saved(figure, path):
    if path:
        with written_beside(path) as beside:
            figure.savefig(beside, dpi=100, facecolor="white")
    return figure


def show_epochs(folder, epochs):
    """The first column of some epochs' grids side by side: a column an epoch, a row a latent vector.

    Args:
        folder: the run's folder, with a grid for each epoch.
        epochs: epoch numbers, counted from 1.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    grids = [imageio.imread(epoch_image_path(folder, epoch)) for epoch in epochs]
    width = (grids[0].shape[1] + GRID_GAP) // GRID_COLUMNS - GRID_GAP
    figure, axes = plt.subplots(1, len(epochs), figsize=(0.8 * len(epochs), 3.5), layout="constrained", squeeze=False)
    for axis, grid, epoch in zip(axes.flat, grids, epochs, strict=True):
        axis.imshow(grid[:, :width], cmap="gray", interpolation=interpolation(grid, 3.2), **BYTE_RANGE)
        axis.set_title(f"epoch {epoch}", fontsize=9)
        axis.axis("off")
    return figure


def show_source(thing):
    """The source of a function or class, for a notebook to show the very code that it runs."""
    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(thing))}```")
