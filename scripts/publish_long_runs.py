"""Refresh what is committed of long runs: generated images, metrics and two figures.

    python -m scripts.publish_long_runs knee-baseline-full knee-improved-full

Each was trained by `make train` and evaluated by `make run ONLY=4`. Runs on real scans are welcome here: no picture
that shows one is taken along. The figures are the strip of the front page, and "what an hour buys", which has baseline
and improved recipe on one axis, of all long runs in the showcase. Brains on phantoms stand beside those on real slices:
rename their folder to brain-baseline-full-phantoms first.
"""

import sys

if __name__ == "__main__" and (len(sys.argv) < 2 or "--help".startswith(sys.argv[1])):
    print(__doc__)  # before TensorFlow is imported, so that it comes at once
    sys.exit(len(sys.argv) < 2)

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from gan_utils import PROJECT_FOLDER, read_json, write_json
from gan_utils.data import DATASETS
from gan_utils.metrics import BEST, METRICS
from gan_utils.plots import BYTE_RANGE, GIF_LABEL, GRID_COLUMNS, GRID_GAP, STYLES, save_progress_gif, saved
from gan_utils.run_folder import read_history
from gan_utils.settings import RECIPES
from scripts.publish_run import copy_afresh

FILES = ("example_output.png", "SSIM.txt", "history.csv", "results.json")  # none of them shows a scan
OF_PHANTOMS = "real_batch.png"  # is taken along where it shows digital phantoms, and once for both recipes
OF_DATA = ("simulated", "slices", "people")  # of run.json; the rest says where scans lie, and whose they are
FRAMES = 16  # of a GIF
DATA = ("", "-phantoms")  # endings of runs
STAGES = 5  # pictures of each run in the figure
FRONT = {  # title: (recipe, picture of its run)
    "to learn from": ("baseline", OF_PHANTOMS),
    "published recipe": ("baseline", "example_output.png"),
    "improved recipe": ("improved", "example_output.png"),
}


def main(names):
    runs = PROJECT_FOLDER / "epoch_images"
    showcase = runs / "showcase"
    for name in names:
        for file in (*FILES, "run.json"):
            if not (runs / name / file).exists():
                sys.exit(f"{name} has no {file}: train it by `make train`, evaluate it by `make run ONLY=4`")
    for name in names:
        publish(runs / name, showcase / name)
        print(f"{(showcase / name).relative_to(PROJECT_FOLDER)} now shows {name}")
    folders = [[showcase / f"{each}-{recipe}-full{on}" for recipe in RECIPES] for each in DATASETS for on in DATA]
    pairs = [[Growth(folder) for folder in pair if folder.exists()] for pair in folders]
    saved(plot_growth([pair for pair in pairs if pair]), showcase / "growth.png")
    saved(plot_front(showcase), showcase / "front.png")


def publish(run, showcase):
    """Put what may be shown of a run into the showcase, in place of what was there."""
    notes = read_json(run / "run.json")
    gif = save_progress_gif(run, frame_epochs(read_history(run)))
    with_phantoms = notes["data"]["simulated"] and notes["settings"]["recipe"] == "baseline"
    files = [*FILES, OF_PHANTOMS] if with_phantoms else FILES
    copy_afresh([gif, *(run / file for file in files)], showcase)
    notes["data"] = {name: notes["data"][name] for name in OF_DATA}
    notes["settings"] |= {"data": None, "output": "epoch_images"}
    write_json(showcase / "run.json", notes)


def frame_epochs(history):
    """The epochs that the GIF of a run shows."""
    return spread(int(history["epoch"][-1]), FRAMES)


def spread(last, number):
    """Up to so many epochs from 1 to the last one, denser at first, where images change most."""
    return sorted({round(epoch) for epoch in np.geomspace(1, last, number)})


class Growth:
    """What a run looked like, and how it scored, over the training images that it had seen (`images`) by each epoch."""

    def __init__(self, folder):
        notes, history = read_json(folder / "run.json"), read_history(folder)
        self.recipe = notes["settings"]["recipe"]
        data = "digital phantoms" if notes["data"]["simulated"] else "real slices"
        size = notes["settings"]["image_size"]
        self.title = f"{notes['settings']['experiment']}s, {size}x{size}, {data}"
        each = notes["images_seen"] / notes["epochs_done"]
        self.images, self.hours = history["epoch"] * each, history["processor_seconds"] / 3600
        self.distance, self.real = history[BEST], np.nanmean(history[f"{BEST}_real"])
        _, *self.frames = imageio.imread(folder / "model_progress.gif", mode="L")
        self.frame_images = each * np.array(frame_epochs(history))

    def picture(self, images):
        """The first image of the frame that is nearest to so many images seen, uint8; white where the run had ended."""
        frame = self.frames[int(np.abs(np.log(self.frame_images / images)).argmin())][GIF_LABEL:]
        (image,) = first_images(frame, 1)
        return np.full_like(image, 255) if self.has_ended(images) else image

    def has_ended(self, images):
        """Whether the run never saw so many images."""
        return images > 1.05 * self.images[-1]


def first_images(grid, number):
    """The first images of a grid: uint8 (size, size) each."""
    size = (grid.shape[1] + GRID_GAP) // GRID_COLUMNS - GRID_GAP
    return [grid[:size, start : start + size] for start in range(0, number * (size + GRID_GAP), size + GRID_GAP)]


def plot_growth(pairs):
    """A figure with a column for each list of `Growth`: pictures and distance over images, distance over hours."""
    figure = plt.figure(figsize=(5 * len(pairs), 7), layout="constrained")
    columns = figure.subfigures(1, len(pairs), squeeze=False)[0]
    for column, growths in zip(columns, pairs, strict=True):
        draw_experiment(column, growths)
        column.suptitle(growths[0].title, fontsize=10)
    return figure


def draw_experiment(figure, growths):
    *strips, by_images, by_hours = figure.subplots(len(growths) + 2, 1, height_ratios=[1] * len(growths) + [2, 2])
    most = max(growth.images[-1] for growth in growths)
    stages = np.geomspace(min(growth.images[0] for growth in growths), most, STAGES)
    for strip, growth in zip(strips, growths, strict=True):
        pictures = [growth.picture(images) for images in stages]
        strip.imshow(np.concatenate(pictures, axis=1), cmap="gray", interpolation="antialiased", **BYTE_RANGE)
        seen = [images for images in stages if not growth.has_ended(images)]
        counts = ", ".join(f"{float(f'{images:.2g}'):,.0f}" for images in seen)
        strip.set_title(f"{growth.recipe}, after about {counts} images", fontsize=8)
        strip.axis("off")
        there, number = np.isfinite(growth.distance), RECIPES.index(growth.recipe)
        style = {"color": f"C{number}", "linestyle": STYLES[number], "label": growth.recipe}
        for axis, numbers in ((by_images, growth.images), (by_hours, growth.hours)):
            axis.plot(numbers[there], growth.distance[there], **style)
    for axis, label in ((by_images, "training images seen"), (by_hours, "CPU hours")):
        axis.axhline(growths[-1].real, color="black", linestyle=":", linewidth=1, label="real images")
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel=METRICS[BEST].label)
        for ticks, digits in ((axis.xaxis, (1, 2, 5)), (axis.yaxis, (1, 1.5, 2, 3, 4, 6, 8))):
            ticks.set_major_locator(LogLocator(subs=digits))
            ticks.set_major_formatter("{x:,g}")
            ticks.set_minor_locator(NullLocator())
    by_images.legend(fontsize=8)


def plot_front(showcase):
    """A figure of two images each: what is learned from, if it may be shown, and what both recipes generate."""
    figure, axes = plt.subplots(len(DATASETS), len(FRONT), figsize=(9.6, 3.4), layout="constrained")
    for axis, title in zip(axes[0], FRONT, strict=True):
        axis.set_title(title, fontsize=10)
    for row, experiment in zip(axes, DATASETS, strict=True):
        for axis, (recipe, file) in zip(row, FRONT.values(), strict=True):
            axis.axis("off")
            path = showcase / f"{experiment}-{recipe}-full" / file
            if path.exists():
                pair = np.concatenate(first_images(imageio.imread(path), 2), axis=1)
                axis.imshow(pair, cmap="gray", interpolation="antialiased", **BYTE_RANGE)
            else:
                axis.text(0.5, 0.5, "real slices,\nnot shown", ha="center", va="center", color="0.4")
    return figure


if __name__ == "__main__":
    main(sys.argv[1:])
