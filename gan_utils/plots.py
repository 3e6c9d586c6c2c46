"""Image grids, GIFs, graphs and tables. Images are float -1..1 (black to white) unless said otherwise."""

import ast
import inspect
import re
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

from gan_utils import atomic_write, go_on, read_json
from gan_utils.image_statistics import HIGH_FREQUENCY, radial_spectra
from gan_utils.metrics import LOSSES, METRICS, watched

UNIT_RANGE, BYTE_RANGE = {"vmin": -1, "vmax": 1}, {"vmin": 0, "vmax": 255}  # fixed: pictures can be compared
GRID_COLUMNS, GRID_GAP = 4, 2  # images in a row, grey pixels between them
PICTURE_WIDTH = 520  # pixels, of GIFs and in notebooks; larger frames only make a heavier file
GIF_GREY_LEVELS, GIF_LABEL = 16, 16  # the height of a label above, in pixels
RATIO_RANGE = 1 / 8, 8  # of graphs; what is outside is drawn at the edge

# Blue, vermilion, green and purple of Okabe and Ito: colour-blind readers can tell them apart, and each stands out from
# white. No two lines of a graph differ in colour alone.
plt.rcParams["axes.prop_cycle"] = plt.cycler(color=["#0072b2", "#d55e00", "#009e73", "#cc79a7"])
STYLES = ("-", "--", ":", "-.", (0, (5, 1)))


def image_grid(images, columns=GRID_COLUMNS):
    """Images side by side, pixel by pixel: (images, height, width, 1) -> uint8 (grid height, grid width), 0..255."""
    images = np.asarray(images)[..., 0]
    number, height, width = images.shape
    rows = -(-number // columns)
    down, right = height + GRID_GAP, width + GRID_GAP
    grid = np.full((rows * down - GRID_GAP, columns * right - GRID_GAP), 64, np.uint8)
    for index, image in enumerate(grey_levels(images)):
        top, left = index // columns * down, index % columns * right
        grid[top : top + height, left : left + width] = image
    return grid


def grey_levels(images):
    """float -1..1 -> uint8 0..255; what is outside is clipped."""
    levels = np.nan_to_num((images + 1) * 127.5)  # training that has blown up makes NaN, which no picture can hold
    return np.clip(levels, 0, 255).round().astype(np.uint8)


def save_image_grid(path, images):
    """Write `image_grid(images)` as a PNG file; an earlier one that is open elsewhere stays."""
    with go_on(), atomic_write(path) as unfinished:
        imageio.imwrite(unfinished, image_grid(images))


def epoch_image_path(folder, epoch):
    """The grid of an epoch; epochs count from 1."""
    return folder / f"image_at_epoch_{epoch:04d}.png"


def save_progress_gif(folder, epochs):
    """Write model_progress.gif: the last epoch for a second, then all of them in about 12; returns its path."""
    notes = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
    images = notes.get("images_seen", 0) / notes.get("epochs_done", 1)
    frames = []
    for epoch in epochs:
        picture = gif_frame(imageio.imread(epoch_image_path(folder, epoch)))
        frame = Image.new("L", (picture.shape[1], picture.shape[0] + GIF_LABEL))
        frame.paste(Image.fromarray(picture), (0, GIF_LABEL))
        label = f"epoch {epoch}" + (f", {epoch * images:,.0f} images seen" if images else "")
        ImageDraw.Draw(frame).text((4, 2), label, fill=255)
        frames.append(np.asarray(frame))
    milliseconds = int(np.clip(12_000 / len(frames), 60, 600))
    return save_gif(folder / "model_progress.gif", [frames[-1], *frames], [1000] + [milliseconds] * len(epochs))


def save_gif(path, frames, milliseconds):
    """Write frames, uint8 (height, width) each, as an endless GIF; milliseconds a frame, or one number for all."""
    with atomic_write(path) as unfinished:
        imageio.imwrite(unfinished, frames, duration=milliseconds, loop=0)
    return path


def gif_frame(picture):
    """A picture, uint8 (height, width), at most PICTURE_WIDTH wide, a third as heavy with fewer grey levels."""
    if picture.shape[1] > PICTURE_WIDTH:
        size = PICTURE_WIDTH, round(picture.shape[0] * PICTURE_WIDTH / picture.shape[1])
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    step = 255 / (GIF_GREY_LEVELS - 1)
    return (np.round(picture / step) * step).astype(np.uint8)


class Picture:
    """A picture in a notebook, with alternative text for those who cannot see it.

    JupyterLab 4.6 and nbconvert 7 read the text from HTML, other viewers from the metadata of the image. (Of an
    `IPython.display.Image` the first two leave it out, and a figure of matplotlib has none.)
    """

    def __init__(self, data, alt, width=None):
        self.data, self.alt, self.width = data, alt, width

    def _repr_mimebundle_(self, include=None, exclude=None):
        kind = "image/gif" if self.data.startswith(b"GIF") else "image/png"
        data = b64encode(self.data).decode()
        attributes = {"alt": self.alt} | ({"width": self.width} if self.width else {})
        in_html = " ".join(f'{name}="{escape(str(value))}"' for name, value in attributes.items())
        return {"text/html": f'<img src="data:{kind};base64,{data}" {in_html}>', kind: data}, {kind: attributes}

    def __repr__(self):
        return self.alt


def show_figure(figure, alt=None):
    """Close a matplotlib figure and show it as a `Picture`; `alt`, or else the figure's label, says what it shows."""
    drawn, file = BytesIO(), BytesIO()
    figure.savefig(drawn, facecolor="white")
    plt.close(figure)
    picture = Image.open(drawn).convert("RGB")
    if not np.ptp(np.asarray(picture), axis=-1).any():  # without colour: grey levels are a third as heavy
        picture = picture.convert("L").point(lambda level: level // 4 * 4 + level // 64)  # 64 levels
    picture.save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), alt or figure.get_label())


def show_picture(path, alt):
    """Show a PNG or GIF file as a `Picture`; `alt` says what it shows, in one sentence."""
    return Picture(path.read_bytes(), alt, PICTURE_WIDTH)


def show_table(header, rows):
    """A table, from the text of each column's head and rows of one text or number a column; NaN is "not measured"."""
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in [header, ["---"] * len(header), *rows])
    return Markdown(re.sub(r"-?\b(nan|inf)\b( ± nan)?", "not measured", text))


def show_metrics(values):
    """Metrics of generated images beside those of real ones, as a table; `values` are those of `Evaluator`."""
    rows = []
    for name, metric in [(name, METRICS[name]) for name in METRICS if name in values]:
        cells = []
        for key in (name, f"{name}_real"):
            numbers = [values[each] for each in (key, f"{key}_spread") if values.get(each) is not None]
            cells.append(" ± ".join(f"{number:.{metric.digits}f}" for number in numbers) or "not measured")
        rows.append((metric.label, *cells, "as real" if metric.target is None else f"{metric.target:g}"))
    return show_table(("metric", "generated", "real", "equally good would be"), rows)


def show_source(thing):
    """The source of a function or class, for a notebook to show the very code that it runs; without its docstrings."""
    source = textwrap.dedent(inspect.getsource(thing))
    left_out = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            left_out |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    shown = [line for number, line in enumerate(source.splitlines(), start=1) if number not in left_out]
    return Markdown("\n".join(["```python", *shown, "```"]))


def show_images(images, titles=None, columns=8, size=1.0):
    """A figure of images, float or uint8 (height, width, 1), each under its title; `size` is inches an image."""
    columns = min(columns, len(images))
    rows, height = -(-len(images) // columns), size + (0.25 if titles is not None else 0.0)
    inches = columns * size, rows * height
    figure, axes = plt.subplots(rows, columns, figsize=inches, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        image = np.asarray(image)
        limits = BYTE_RANGE if image.dtype == np.uint8 else UNIT_RANGE
        # Pixels as they are where there is room; else averaged, for dropped pixels make false patterns.
        fits = image.shape[0] <= size * plt.rcParams["figure.dpi"]
        axis.imshow(image.squeeze(), cmap="gray", interpolation="nearest" if fits else "auto", **limits)
        if titles is not None:
            axis.set_title(titles[number], fontsize=9)
    return figure


def show_epochs(folder, epochs):
    """A figure of the first column of some epochs' grids: a column per epoch, a row per latent vector."""
    paths = [epoch_image_path(folder, epoch) for epoch in epochs]
    figure = show_grids(paths, [f"epoch {epoch}" for epoch in epochs], columns=1, height=3.5)
    figure.set_label("Images from four latents, a row each, epoch by epoch")
    return figure


def show_grids(paths, titles, columns, height):
    """A figure of the first so many columns of saved grids side by side, each under its title; `height` in inches."""
    grids = [imageio.imread(path) for path in paths]
    width = (grids[0].shape[1] + GRID_GAP) // GRID_COLUMNS * columns - GRID_GAP
    inches = 0.8 * columns * len(grids), height
    figure, axes = plt.subplots(1, len(grids), figsize=inches, layout="constrained", squeeze=False)
    for axis, grid, title in zip(axes.flat, grids, titles, strict=True):
        axis.imshow(grid[:, :width], cmap="gray", interpolation="auto", **BYTE_RANGE)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    return figure


def plot_losses(losses, path=None, coin_toss=1.386):
    """A figure of both losses, from `read_history` or of step_losses.csv, and of a discriminator that tosses a coin."""
    counted = losses.dtype.names[0]
    figure, axes = plt.subplots(2, 1, figsize=(7, 4.5), sharex=True, layout="constrained")
    for axis, name, style in zip(axes, LOSSES, STYLES, strict=False):
        axis.plot(losses[counted], losses[name], style, linewidth=1, label=LOSSES[name].label)
        axis.set(ylabel="loss", title=LOSSES[name].label.capitalize())
    axes[1].axhline(coin_toss, color="black", linestyle=":", linewidth=1, label="tossing a coin")
    axes[1].legend()
    axes[1].set_xlabel("epoch" if counted == "epoch" else "training step")
    figure.set_label("The losses of generator and discriminator while training goes on, and that of tossing a coin")
    return saved(figure, path)


def plot_history(history, path=None):
    """A figure of the losses and of every metric over the epochs, beside real images; saved where a path is given.

    Thin grey lines are the limits beyond which a warning is raised; NaN in the history means "not evaluated then".
    """
    names = [name for name in watched() if name in history.dtype.names]
    rows = -(-len(names) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(8, 1.9 * rows), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        metric = watched()[name]
        there = np.isfinite(history[name])
        values = np.clip(history[name], *RATIO_RANGE) if metric.target == 1 else history[name]
        axis.plot(history["epoch"][there], values[there], ".-", markersize=4, label="generated")
        real = history[f"{name}_real"][there] if f"{name}_real" in history.dtype.names else []
        target = metric.target if metric.target is not None else real[-1] if len(real) else None
        if target is not None:
            axis.axhline(target, color="black", linestyle=":", linewidth=1, label="real images")
        for limit in (metric.low, metric.high):
            if np.isfinite(limit):
                axis.axhline(limit, color="0.45", linewidth=0.8)
        axis.set_title(metric.label, fontsize=9)
        axis.set_xlim(0, max(2, history["epoch"][-1]) + 1)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.tick_params(labelsize=7)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    figure.supxlabel("epoch", fontsize=9)
    figure.set_label("Both losses and every metric over the epochs, beside real images; thin lines: limits of warnings")
    axes.flat[min(len(LOSSES), len(names) - 1)].legend(fontsize=7)
    return saved(figure, path)


def plot_ssim(history, references, title, path=None):
    """A figure of the published SSIM over the epochs, between its floors and its ceiling; saved where a path is given.

    `references` are {label: (SSIM, spread)} of images that any generator has to be compared with; the spread, a
    standard deviation or 0, is shown as a band.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(history["epoch"], history["ssim"], "o-", markersize=3, label="generated images")
    for number, (label, (value, spread)) in enumerate(references.items(), start=1):
        axis.axhline(value, color=f"C{number}", linestyle=STYLES[number], label=f"{label}: {value:.3f}")
        axis.axhspan(value - spread, value + spread, color=f"C{number}", alpha=0.15, linewidth=0)
    axis.set(xlabel="epoch", ylabel="SSIM", title=title)
    figure.set_label(f"SSIM of generated images over the epochs, with lines for {', '.join(references)}")
    figure.legend(loc="outside lower center", ncols=2)  # inside it would hide one of the lines
    return saved(figure, path)


def plot_spectra(sets):
    """A figure of the power at each spatial frequency of {label: images}, up to three sets, on a logarithmic axis."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for style, (label, images) in zip(STYLES, sets.items(), strict=False):
        frequencies, powers = radial_spectra(images)
        axis.plot(frequencies, powers.mean(axis=0), linestyle=style, label=label)
    axis.axvspan(HIGH_FREQUENCY, frequencies[-1], color="grey", alpha=0.12, linewidth=0, label="high frequencies")
    axis.set(yscale="log", xlim=(0, frequencies[-1]), title="Power at each spatial frequency")
    axis.set(xlabel="spatial frequency in cycles per pixel", ylabel="mean squared amplitude")
    figure.set_label(f"Power at each spatial frequency of {', '.join(sets)} images")
    axis.legend()
    return figure


def saved(figure, path):
    """The figure, written to `path` where there is one."""
    if path:
        with atomic_write(path) as unfinished:
            figure.savefig(unfinished, dpi=100, facecolor="white")
    return figure


def plot_points(sets):
    """A figure of {label: points (images, 2)}, each set in a colour of its own."""
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for marker, (label, points) in zip("ox^", sets.items(), strict=False):
        axis.scatter(*points.T, s=9, marker=marker, alpha=0.5, label=label)
    axis.set(xlabel="first direction", ylabel="second direction")
    figure.set_label(f"Clouds of points, one each for {', '.join(sets)} images")
    axis.legend()
    return figure


def plot_distributions(sets, labels):
    """A figure of histograms, one for each measurement in `labels`, with {set: {measurement: values}} overlaid."""
    columns = max(len(labels), 1)
    figure, axes = plt.subplots(1, columns, figsize=(2.6 * columns, 2.4), layout="constrained", squeeze=False)
    for axis, (name, label) in zip(axes.flat, labels.items(), strict=False):
        values = {each: found[name][np.isfinite(found[name])] for each, found in sets.items()}
        together = np.concatenate(list(values.values()))
        bins = np.linspace(*(np.percentile(together, [1, 99]) if len(together) else (0, 1)), 20)
        for style, (each, numbers) in zip(STYLES, values.items(), strict=False):
            share = np.full(len(numbers), 1 / max(len(numbers), 1))  # sets may be of different size
            axis.hist(numbers, bins, weights=share, histtype="step", linestyle=style, label=each)
        axis.set_title(textwrap.fill(label, 24), fontsize=8)
        axis.tick_params(labelsize=7, left=False, labelleft=False)
    axes.flat[0].legend(*axes.flat[0].get_legend_handles_labels(), fontsize=7)  # none where nothing is measured
    axes.flat[0].set_ylabel("share of images", fontsize=7)
    figure.set_label(f"Histograms of {', '.join(labels.values())}, for {', '.join(sets)} images")
    return figure
