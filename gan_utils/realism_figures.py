"""Pictures and tables for judging generated images beside real ones; images are float -1..1 (black to white)."""

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

from gan_utils.figures import UNIT_RANGE, interpolation
from gan_utils.realism import HIGH_FREQUENCY

# Style and colour of generated images, of held-out people and of training people, in every graph here.
LINES = (("-", "C0"), ("--", "C1"), (":", "C2"))
FIGURES = {  # as `judge` and `judge_with_inception` call them -> in words, with what equally good images have
    "ssim": ("SSIM, as published", "as real"),
    "swd": ("sliced Wasserstein distance", "as real"),
    "diversity_ratio": ("diversity ratio", "1"),
    "high_frequency_ratio": ("high-frequency ratio", "1"),
    "nearest_ratio": ("nearest-neighbour ratio", "1"),
    "kid": ("KID", "0"),
}


def show_table(header, rows):
    """A table for a notebook.

    Args:
        header: text of each column's head.
        rows: sequences of one text or number a column.
    """
    lines = [header, ["---"] * len(header), *rows]
    return Markdown("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))


def show_nearest(images, nearest, distances, size=0.8):
    """Each image above the training image most like it, and the difference of the two below.

    Args:
        images, nearest: float (images, height, width, 1), -1..1.
        distances: root mean square difference of each pair, 0..2.
        size: inches an image.

    Returns:
        A `matplotlib.figure.Figure`; in its last row middle grey is "no difference", white is "1 or more brighter".
    """
    rows = {"generated": images, "nearest in\ntraining": nearest, "difference": np.asarray(images) - nearest}
    figure, axes = plt.subplots(
        3, len(images), figsize=(len(images) * size + 0.8, 3 * size + 0.3), layout="constrained", squeeze=False
    )
    for row, (label, row_images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(label, fontsize=9)
        for axis, image in zip(row, row_images, strict=True):
            axis.imshow(image[..., 0], cmap="gray", interpolation=interpolation(image, size), **UNIT_RANGE)
            axis.set(xticks=[], yticks=[])
    for axis, distance in zip(axes[0], distances, strict=True):
        axis.set_title(f"{distance:.2f}", fontsize=9)
    return figure


def plot_spectra(spectra):
    """Radial spectra on one logarithmic axis, with the limit above which the high-frequency ratio looks.

    Args:
        spectra: {label: (frequencies, power)} of up to three sets of images, from `radial_spectrum`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for (style, color), (label, (frequencies, power)) in zip(LINES, spectra.items(), strict=False):
        axis.plot(frequencies, power, style, color=color, label=label)
    axis.axvspan(HIGH_FREQUENCY, frequencies[-1], color="grey", alpha=0.12, linewidth=0)
    axis.axvline(
        HIGH_FREQUENCY, color="grey", linestyle="-.", linewidth=1, label="high frequencies: right of this line"
    )
    axis.set(
        yscale="log",
        xlim=(0, frequencies[-1]),
        xlabel="spatial frequency in cycles per pixel",
        ylabel="mean squared amplitude",
        title="Power at each spatial frequency",
    )
    axis.legend()
    return figure


def plot_people(figures):
    """What generated images score against each held-out person, beside what training images score.

    Args:
        figures: {name: array with a value a person}, from `judge_by_person`.

    Returns:
        A `matplotlib.figure.Figure`; lines are means over people, the band is ± their standard deviation.
    """
    places = np.arange(len(figures["person"]))
    figure, (distances, ratios) = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    distances.vlines(places, figures["swd_real"], figures["swd"], color="grey", linewidth=1)
    for name, label, marker, (style, color) in (
        ("swd", "generated images", "o", LINES[0]),
        ("swd_real", "training images", "s", LINES[2]),
    ):
        distances.plot(places, figures[name], marker, color=color, label=label)
        distances.axhline(figures[name].mean(), linestyle=style, color=color, linewidth=1)
    nearest = figures["nearest_ratio"]
    ratios.plot(places, nearest, "o", color="C0")
    ratios.axhline(nearest.mean(), color="C0", linewidth=1)
    ratios.axhspan(nearest.mean() - nearest.std(), nearest.mean() + nearest.std(), color="C0", alpha=0.12, linewidth=0)
    ratios.axhline(1, color="black", linestyle=":", linewidth=1, label="as near as that person is")
    distances.set(title="Sliced Wasserstein distance", ylabel="distance to that person")
    distances.set_ylim(0, 1.08 * max(figures["swd"].max(), figures["swd_real"].max()))
    ratios.set(title="Nearest-neighbour ratio", ylabel="generated over that person")
    for axis in (distances, ratios):
        axis.set(xlabel="held-out person", xlim=(-0.5, len(places) - 0.5))
        axis.set_xticks(places, figures["person"], rotation=90 if len(places) > 8 else 0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def show_judgement(figures):
    """Every figure of generated images beside that of real people, as a table; those that are None say so.

    Args:
        figures: from `judge`, with those of `judge_with_inception` where its weights are there, and with `ssim`.
    """
    rows = [
        (words, with_spread(figures, name), with_spread(figures, f"{name}_real"), ideal)
        for name, (words, ideal) in FIGURES.items()
    ]
    return show_table(("figure", "generated", "real people", "equally good would be"), rows)


def with_spread(figures, name):
    value, spread = figures.get(name), figures.get(f"{name}_spread")
    if value is None:
        return "not measured"
    digits = 1 if name.startswith("swd") else 2
    return f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")
