"""How generated images differ from real ones. `METRICS` is the one table of metrics; a new one is one more entry.

A metric means something only beside the same metric of real images that stand in for the generated ones: `Evaluator`
gives both.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gan_utils import counted
from gan_utils.features import frechet_distance, kernel_distance
from gan_utils.image_statistics import (
    SSIM_IMAGES,
    distance_to_others,
    high_frequency_power,
    ssim_all_pairs,
    ssim_with_batches,
)

FIRST_EPOCH_TO_WARN = 3  # the fog and the lattice that healthy runs begin with raise no warning before


def maximum_ssim(images, real):
    """As published for brains: for each sixteen images the maximum over all pairs with the reference batches."""
    groups = np.split(images, range(SSIM_IMAGES, len(images), SSIM_IMAGES))
    return [ssim_with_batches(group, real.reference_batches).max() for group in groups]


def mean_ssim(images, real):
    """As published for knees: the mean over all pairs with the held-out slices, for each of up to 64 images."""
    return ssim_all_pairs(images[:64], real.held_out).mean(axis=1)


PUBLISHED_SSIM = {"maximum": maximum_ssim, "mean": mean_ssim}


class Metric(NamedTuple):
    """One entry of `METRICS`."""

    label: str
    compute: Callable  # (images, real) -> a number, or one for each image (its mean counts); real is the `Evaluator`
    target: float | None = None  # what equally good images have; None: what real images have
    stand_in: Callable = lambda real: real.held_out_sample  # the real images in the generated ones' place
    low: float = -np.inf  # below it training has gone wrong, as the words in `below` say
    below: str = ""
    high: float = np.inf
    above: str = ""
    sharp_only: bool = False  # whether `low` counts only where the images are not blurred
    for_subjects: bool = True  # whether it means something for the slices of one subject
    every_epoch: bool = False  # whether it is worked out in each epoch, of the sixteen images in its grid
    needs: str | None = None  # what the `Evaluator` has to have been given: "network" or "discriminator"
    digits: int = 2


BY_NETWORK = {"for_subjects": False, "needs": "network"}
# Of distances to held-out images: training images stand in for generated ones.
FEATURE_DISTANCE = {"stand_in": lambda real: real.training_sample, **BY_NETWORK}

# Where warnings begin: sets of six or more real subjects had ratios of 0.7 to 1.2 in trials.
METRICS = {
    "ssim": Metric(
        "SSIM, as published",
        compute=lambda images, real: real.published_ssim(images, real),
        stand_in=lambda real: real.training_sample if real.published_ssim is mean_ssim else real.held_out_sample,
        for_subjects=False,
        every_epoch=True,
    ),
    "swd": Metric(
        "sliced Wasserstein distance",
        compute=lambda images, real: real.textures(images)["mean"],
        stand_in=lambda real: real.training_sample,
        digits=1,
    ),
    "diversity_ratio": Metric(
        "diversity ratio",
        compute=lambda images, real: distance_to_others(images) / real.mean(distance_to_others, "training_sample"),
        target=1,
        low=0.5,
        below="Collapse: the generated images are nearly all alike; try a smaller learning rate, or the improved "
        "recipe.",
        for_subjects=False,
    ),
    "high_frequency_ratio": Metric(
        "high-frequency ratio",
        compute=lambda images, real: high_frequency_power(images) / real.mean(high_frequency_power, "training_sample"),
        target=1,
        high=2.0,
        above="Lattice: the generated images have far too much fine texture, a lattice or noise; train longer, or try "
        "beta_1 0.5 or kernels of 4 pixels.",
    ),
    "nearest_ratio": Metric(
        "nearest-neighbour ratio",
        compute=lambda images, real: real.nearest(images) / real.mean(real.nearest, "held_out_sample"),
        target=1,
        low=0.7,
        below="Memorising: the generated images are sharp but hardly differ from training images; add subjects, or "
        "train for fewer epochs.",
        sharp_only=True,
    ),
    "frechet_distance": Metric(
        "Fréchet distance, trained features",
        compute=lambda images, real: real.compare(frechet_distance, images),
        **FEATURE_DISTANCE,
    ),
    "frechet_ratio": Metric(
        "Fréchet distance over that of real images",
        compute=lambda images, real: (
            real.compare(frechet_distance, images)
            / np.mean(real.compare(frechet_distance, real.training_sample[: len(images)]))
        ),
        target=1,
        **FEATURE_DISTANCE,
    ),
    "kernel_distance": Metric(
        "kernel distance, trained features",
        compute=lambda images, real: real.compare(kernel_distance, images),
        **FEATURE_DISTANCE,
    ),
    "random_frechet_distance": Metric(
        "Fréchet distance, random features",
        compute=lambda images, real: real.compare(frechet_distance, images, "random"),
        **FEATURE_DISTANCE,
    ),
    "random_kernel_distance": Metric(
        "kernel distance, random features",
        compute=lambda images, real: real.compare(kernel_distance, images, "random"),
        **FEATURE_DISTANCE,
    ),
    "density": Metric(
        "density",
        compute=lambda images, real: real.among_training_images(images)[0],
        **BY_NETWORK,
    ),
    "coverage": Metric(
        "coverage",
        compute=lambda images, real: real.among_training_images(images)[1],
        **BY_NETWORK,
    ),
    "two_sample_accuracy": Metric(
        "accuracy of a two-sample test",
        compute=lambda images, real: real.tell_apart(images),
        target=0.5,
        stand_in=lambda real: real.other_training_images(),
        **BY_NETWORK,
    ),
    "discriminator_gap": Metric(
        "training images that the discriminator prefers",
        compute=lambda images, real: real.preferred_training_images(images),
        target=0.5,
        for_subjects=False,
        needs="discriminator",
    ),
}

BEST = "swd"  # chooses, on validation subjects, which generator is kept as the best one; the lower the better

LOSSES = {
    "generator_loss": Metric("generator loss", compute=None, every_epoch=True),
    "discriminator_loss": Metric(
        "discriminator loss",
        compute=None,
        low=0.05,  # tossing a coin costs 1.39, in relativistic losses 0.69
        below="The discriminator has won: it knows every generated image, so the generator learns nothing any more; "
        "give it a smaller learning rate.",
        every_epoch=True,
    ),
}


def watched():
    """{name: `Metric`} of all that a history holds: the losses, and `METRICS` that need nothing but images."""
    return LOSSES | {name: metric for name, metric in METRICS.items() if metric.needs is None}


def find_warnings(values, epoch=FIRST_EPOCH_TO_WARN):
    """Warnings in words for {name: value} of metrics and losses of an epoch, each with its cause and something to try.

    Metrics raise one from epoch 3 on, losses and broken numbers in any epoch. Often there are none.
    """
    metrics = watched()
    known = {name: values[name] for name in metrics if values.get(name) is not None}
    # A ratio that is NaN may only have nothing to be divided by.
    if not np.isfinite([value for name, value in known.items() if metrics[name].every_epoch]).all():
        return ["NaN: training has blown up and cannot recover; start again with smaller learning rates."]
    blurred = known.get("high_frequency_ratio", 1) < 0.7  # a blur brings images nearer to others, too
    found = []
    for name, value in known.items():
        metric = metrics[name]
        if name in LOSSES or epoch >= FIRST_EPOCH_TO_WARN:
            other_scale = name in LOSSES and value < 0  # a loss of your own
            if value < metric.low and not other_scale and not (metric.sharp_only and blurred):
                found.append(metric.below)
            if value > metric.high:
                found.append(metric.above)
    return found


def warnings_of_run(history):
    """{warning: [epochs that raised it]} of a whole run, from `read_history`, in the order of their first epochs."""
    raised, each_epoch = {}, set(LOSSES)
    for row in history:
        # NaN means "not evaluated", but in what was there in every epoch so far it means broken numbers.
        finite = {name for name in history.dtype.names if np.isfinite(row[name])}
        values = {name: row[name] for name in history.dtype.names if name in finite | each_epoch}
        each_epoch |= {name for name, metric in METRICS.items() if metric.every_epoch and name in finite}
        for warning in find_warnings(values, row["epoch"]):
            raised.setdefault(warning, []).append(int(row["epoch"]))
    return raised


def describe_warnings(history):
    """The warnings of a whole run as text, a line for each with the epochs that raised it, or that there are none."""
    lines = [
        f"- from epoch {epochs[0]} on, in {len(epochs)} of {len(history)}: {text}"
        for text, epochs in warnings_of_run(history).items()
    ]
    return "\n".join([f"Warnings in {counted(len(history), 'epoch')}:{'' if lines else ' none'}", *lines])
