"""What an ablation shows: a figure with a row for each step, tables, and the grids of images side by side."""

import textwrap
from itertools import pairwise

import imageio.v3 as imageio
import matplotlib.pyplot as plt
import numpy as np

from gan_utils.ablation.steps import differing
from gan_utils.figures import BYTE_RANGE, GRID_COLUMNS, GRID_GAP
from gan_utils.realism_figures import show_table

PANELS = {  # column of a row: (title, what is as good as real)
    "swd": ("sliced Wasserstein\ndistance", None),
    "diversity_ratio": ("diversity\nratio", (0.9, 1.1)),
    "high_frequency_ratio": ("high-frequency\nratio", (0.8, 1.25)),
    "nearest_ratio": ("nearest-neighbour\nratio", (0.9, 1.1)),
    "images_seen": ("thousand images\nseen", None),
}
FIGURES = {  # head of a table: (column of a row, digits)
    "SWD": ("swd", 1),
    "diversity": ("diversity_ratio", 2),
    "high-frequency": ("high_frequency_ratio", 2),
    "nearest": ("nearest_ratio", 2),
}
MARKERS = {"step": ("o", "C0"), "alternative": ("D", "C1")}
SMALLEST_RATIO, LARGEST_RATIO = 1 / 8, 8  # what lies outside is drawn at the border


def plot_ablation(rows):
    """One line of dots for each step, on axes that are aligned from step to step.

    Built up in notebooks/05_improve_the_gan.ipynb.

    Args:
        rows: from `read_ablation`; failures are left out.

    Returns:
        A `matplotlib.figure.Figure`. Dashed lines are real held-out people; bands are close to them.
    """
    rows = [row for row in rows if row["kind"] != "failure"]
    places, steps_done = np.arange(len(rows)), sum(row["kind"] == "step" for row in rows)
    figure, axes = plt.subplots(
        1, len(PANELS), figsize=(10, 0.34 * len(rows) + 1.2), sharey=True, layout="constrained", facecolor="white"
    )
    for axis, (column, (title, band)) in zip(axes, PANELS.items(), strict=True):
        values = np.array([row[column] for row in rows])
        if band:
            values = np.clip(values, SMALLEST_RATIO, LARGEST_RATIO)
            axis.axvspan(*band, color="grey", alpha=0.25, linewidth=0)
            axis.axvline(1, color="grey", linewidth=0.8)
            axis.set(xscale="log", xlim=(SMALLEST_RATIO / 1.15, LARGEST_RATIO * 1.15))
            axis.set_xticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], ["⅛", "¼", "½", "1", "2", "4", "8"])
            axis.minorticks_off()
        elif column == "images_seen":
            values = values / 1000
            axis.set_xlim(0, 1.1 * values.max())
        else:
            axis.set_xlim(0, 1.1 * values.max())
        if f"{column}_real" in rows[0]:
            axis.axvline(rows[0][f"{column}_real"], color="black", linestyle="--", linewidth=1)
        axis.plot(values[:steps_done], places[:steps_done], "-", color="C0", linewidth=0.6, alpha=0.5)
        for value, place, row in zip(values, places, rows, strict=True):
            marker, color = MARKERS[row["kind"]]
            axis.plot(value, place, marker, color=color, markersize=6)
        axis.set_title(title, fontsize=9)
        axis.grid(axis="y", color="0.9", linewidth=0.6)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(places, [in_words(row) for row in rows], fontsize=9)
    axes[0].invert_yaxis()
    return figure


def in_words(row):
    """The name of a row as the steps add up."""
    sign = {"step": "+ ", "alternative": "or: ", "failure": ""}[row["kind"]]
    return row["name"] if row["name"] == "baseline" else sign + row["name"]


def show_changes(chain):
    """What each step of the chain changes, as a table.

    Args:
        chain: from `steps`.
    """
    rows = [
        (step.name, listed(differing(step.settings, before.settings, step.changed)), listed(step.changed))
        for before, step in pairwise(chain)
    ]
    return show_table(("step", "from", "to"), rows)


def show_ablation(rows):
    """What each step changed, what it costs and what it buys, as a table; the last line is real people.

    Args:
        rows: from `read_ablation`, with the same images to train on.
    """
    header = ("step", "changed", "images per second", "loss of generator, discriminator", *FIGURES)
    cells = [
        (
            in_words(row),
            changes_of(row),
            f"{row['images_per_second']:.0f}",
            f"{row['generator_loss']:.2f}, {row['discriminator_loss']:.2f}",
            *figures_of(row),
        )
        for row in rows
    ]
    return show_table(header, [*cells, ("held-out real people", "none", "none", "none", *figures_of(rows[0], "_real"))])


def changes_of(row):
    limits = {"training images": row["training_images"], "stopped after images": row["enough_images"]}
    return listed(row["changed"] | {name: number for name, number in limits.items() if number})


def listed(settings):
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "nothing"


def figures_of(row, which=""):
    return [f"{row[f'{name}{which}']:.{digits}f}" for name, digits in FIGURES.values()]


def show_grids(folder, rows, columns=2):
    """The saved grids of some rows side by side, each under its name; every grid is from the same latents.

    Args:
        folder: of the ablation.
        rows: some rows from `read_ablation`.
        columns: of the sixteen images of a grid, those in the first so many columns are shown.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    grids = [imageio.imread(folder / row["picture"]) for row in rows]
    width = (grids[0].shape[1] + GRID_GAP) // GRID_COLUMNS * columns - GRID_GAP
    figure, axes = plt.subplots(
        1, len(rows), figsize=(0.8 * columns * len(rows), 3.6), layout="constrained", facecolor="white", squeeze=False
    )
    for axis, grid, row in zip(axes.flat, grids, rows, strict=True):
        axis.imshow(grid[:, :width], cmap="gray", interpolation="auto", **BYTE_RANGE)
        axis.set_title(textwrap.fill(in_words(row), 12 * columns), fontsize=9)
        axis.axis("off")
    return figure


def show_failures(rows):
    """The figures of failed runs as a table, each with the alarms that it raises.

    Args:
        rows: the failures from `read_ablation`.
    """
    cells = [(row["name"], changes_of(row), *figures_of(row), " ".join(row["alarms"]) or "no alarm") for row in rows]
    return show_table(("failure", "made by", *FIGURES, "alarms"), cells)
