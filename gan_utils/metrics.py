"""How generated images differ from real ones. `METRICS` is the one table of metrics; a new one is one more entry.

A metric means something only beside the same metric of real images that stand in for the generated ones: `Evaluator`
gives both.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gan_utils import counted
from gan_utils.data import DATASETS
from gan_utils.features import (
    SSIM_IMAGES,
    distance_to_others,
    distance_to_training,
    high_frequency_power,
    sample_images,
    sample_reference_batches,
    sliced_wasserstein_distance,
    small_copies,
    ssim_all_pairs,
    ssim_with_batches,
)

FIRST_EPOCH_TO_WARN = 3  # the fog and the lattice that healthy runs begin with raise no warning before
UNKNOWN = "cannot be computed: there is one image only, images hold NaN, or what it is divided by is 0 in real images"


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
    digits: int = 2


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
}

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
    """{name: `Metric`} of all that a history holds: the losses, and `METRICS` with what was added to it."""
    return {**LOSSES, **METRICS}


class Evaluator:
    """Works out `METRICS` of sets of generated images; what depends on the real images alone is worked out once.

    Built up in notebooks/04_evaluate.ipynb.

    Args:
        held_out: real images of subjects whom the generator never saw; of one subject only, they are no fair measure.
        training: all images that it was trained on.
        settings: `Settings`; uses experiment, seed and ssim_batches.
        number: how many images of each set count; 256 or more give steady values.
        projections: of the sliced Wasserstein distances.

    Example:
        >>> evaluator = Evaluator(splits.test.images, splits.train.images, settings)
        >>> evaluator(generate_images(generator, latents))["diversity_ratio"]
        0.98
    """

    def __init__(self, held_out, training, settings, number=256, projections=256):
        self.training, self.number, self.seed, self.projections = training, number, settings.seed, projections
        self.training_sample = sample_images(training, number, self.seed)
        self.training_copies = small_copies(training)
        self.published_ssim = PUBLISHED_SSIM[DATASETS[settings.experiment].published_ssim]
        self.reference_batches = sample_reference_batches(training, settings)
        self.means = {}
        self.hold_out(held_out)

    def hold_out(self, held_out):
        self.held_out, self.held_out_sample = held_out, sample_images(held_out, self.number, self.seed)
        self.means = {key: mean for key, mean in self.means.items() if key[1] == "training_sample"}
        self.real_values = {}

    def __call__(self, images, names=None):
        """{name: value} of the metrics named, or of all of them.

        Of each `name` also `name_real`, that of real images in place of the generated ones, and, where a metric has a
        value for each image, their standard deviation as `name_spread` and `name_real_spread`. What cannot be computed
        is NaN, and `name_reason` says why.
        """
        values = {}
        for name in METRICS if names is None else names:
            metric = METRICS[name]
            with np.errstate(divide="ignore", invalid="ignore"):  # `summary` says so in words
                if name not in self.real_values:
                    self.real_values[name] = summary(f"{name}_real", metric.compute(metric.stand_in(self), self))
                values |= summary(name, metric.compute(images, self)) | self.real_values[name]
        return values

    def textures(self, images):
        """`sliced_wasserstein_distance` to the held-out images, from as many as there are of each set."""
        number = min(map(len, (images, self.held_out_sample, self.training)))
        images = sample_images(images, number, self.seed)
        distances = sliced_wasserstein_distance(images, self.held_out_sample, self.seed, self.projections)
        return {level: round(distance, 4) for level, distance in distances.items()}

    def nearest(self, images):
        """Distance of each image to the nearest training image: float (images,)."""
        return distance_to_training(images, self.training, self.training_copies)[0]

    def mean(self, measure, images):
        """Mean of a measure over the attribute `images`, which holds real ones."""
        if (measure, images) not in self.means:
            self.means[measure, images] = np.mean(measure(getattr(self, images)))
        return self.means[measure, images]

    def by_subject(self, generated, subjects):
        """The metrics against one held-out subject at a time: their spread says how much depends on who was held out.

        A subject's slices are few and alike, so distances are larger than against all: compare with `name_real` only.

        Args:
            generated: generated images.
            subjects: int (held-out images,), the number of the subject in each.

        Returns:
            {name: array with a value a subject}: "subject", and the metrics that mean something for one subject, with
            `_real` beside them where they have no target; ratios have that subject's images below the line.
        """
        names = [name for name, metric in METRICS.items() if metric.for_subjects]
        found = {"subject": np.unique(subjects)}
        one = copy.copy(self)
        for subject in found["subject"]:
            one.hold_out(self.held_out[subjects == subject])
            values = one(generated, names)
            for name in names:
                value, real = values[name], values[f"{name}_real"]
                pair = {name: value / (real or np.nan)} if METRICS[name].target else {name: value, f"{name}_real": real}
                for key in pair:
                    found.setdefault(key, []).append(pair[key])
        return {name: np.array(values) for name, values in found.items()}


def summary(name, values):
    """A metric of each image, or of all, as {name: mean, name_spread: standard deviation}; else NaN and name_reason."""
    if not np.isfinite(values).all():
        return {name: np.nan, f"{name}_reason": UNKNOWN}
    spread = {f"{name}_spread": round(float(np.std(values)), 4)} if np.ndim(values) else {}
    return {name: round(float(np.mean(values)), 4), **spread}


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
            if value < metric.low and not (metric.sharp_only and blurred):
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
