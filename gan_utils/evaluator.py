"""The evaluation of generated images: every metric of `METRICS`, beside the same of real images."""

import copy

import numpy as np

from gan_utils.data import DATASETS
from gan_utils.features import build_feature_network, density_and_coverage, extract, two_sample_test
from gan_utils.image_statistics import (
    as_images,
    distance_to_training,
    sample_images,
    sample_reference_batches,
    sliced_wasserstein_distance,
    small_copies,
)
from gan_utils.metrics import METRICS, PUBLISHED_SSIM

SUBSETS = 10  # of half the images each, for the spread of distances between features
UNKNOWN = "cannot be computed: there is one image only, images hold NaN, or what it is divided by is 0 in real images"


class Evaluator:
    """Works out `METRICS` of sets of generated images; what depends on the real images alone is worked out once.

    Built up in notebooks/04_evaluate.ipynb.

    Args:
        held_out: real images of subjects whom the generator never saw; of one subject only, they are no fair measure.
        training: all images that it was trained on.
        settings: `Settings`; uses experiment, seed and ssim_batches.
        number: how many images of each set count; 256 or more give steady values.
        projections: of the sliced Wasserstein distances.
        network: from `train_feature_network`; without it, the metrics that need it are left out.
        discriminator: of the run, for the metric that needs it.

    Example:
        >>> evaluator = Evaluator(splits.test.images, splits.train.images, settings)
        >>> evaluator(generate_images(generator, latents))["diversity_ratio"]
        0.98
    """

    def __init__(self, held_out, training, settings, number=256, projections=256, *, network=None, discriminator=None):
        self.training, self.number, self.seed, self.projections = training, number, settings.seed, projections
        self.network, self.discriminator = network, discriminator
        self.training_sample = sample_images(training, number, self.seed)
        self.training_copies = small_copies(training)
        self.published_ssim = PUBLISHED_SSIM[DATASETS[settings.experiment].published_ssim]
        self.reference_batches = sample_reference_batches(training, settings)
        self.means = {}
        self.hold_out(held_out)

    def hold_out(self, held_out):
        self.held_out, self.held_out_sample = held_out, sample_images(held_out, self.number, self.seed)
        self.means = {key: mean for key, mean in self.means.items() if key[1] == "training_sample"}
        self.real_values, self.real_sets = {}, {}

    def __call__(self, images, names=None):
        """{name: value} of the metrics named, or of all that can be worked out with what the evaluator was given.

        Of each `name` also `name_real`, that of real images in place of the generated ones, and, where a metric has a
        value for each image, their standard deviation as `name_spread` and `name_real_spread`. What cannot be computed
        is NaN, and `name_reason` says why.
        """
        values = {}
        for name in self.names() if names is None else names:
            metric = METRICS[name]
            with np.errstate(divide="ignore", invalid="ignore"):  # `summary` says so in words
                key = metric, len(images), self.network, self.discriminator
                if key not in self.real_values:
                    real_images = metric.stand_in(self)
                    if not metric.every_epoch:  # nearly all values depend on how many images there are
                        real_images = real_images[: len(images)]
                    self.real_values[key] = summary(f"{name}_real", metric.compute(real_images, self))
                values |= summary(name, metric.compute(images, self)) | self.real_values[key]
        return values

    def names(self):
        """The metrics that need nothing which this evaluator was not given."""
        return [name for name, metric in METRICS.items() if metric.needs is None or getattr(self, metric.needs)]

    def textures(self, images):
        """`sliced_wasserstein_distance` to the held-out images, from as many as there are of each set."""
        number = min(map(len, (images, self.held_out_sample, self.training)))
        images = sample_images(images, number, self.seed)
        return sliced_wasserstein_distance(images, self.held_out_sample, self.seed, self.projections)

    def nearest(self, images):
        """Distance of each image, as it is or mirrored, to the nearest training image: float (images,)."""
        mirrored = images, images[:, ::-1], images[:, :, ::-1]
        return np.min([distance_to_training(each, self.training, self.training_copies)[0] for each in mirrored], axis=0)

    def equally_many(self, images, kind="trained", real="held_out_sample"):
        """Features of generated and of real images, equally many: two float (images, features).

        Each feature has mean 0 and standard deviation 1 in training images, so that none counts more than others;
        those that hardly vary there are left out.
        """
        network, known = self.real_features(kind)
        mean, spread = known["training_sample"].mean(axis=0), known["training_sample"].std(axis=0)
        varied = spread > 0.01 * spread.max()
        number = min(len(images), *map(len, known.values()))
        sets = extract(network, sample_images(images, number, self.seed)), known[real][:number]
        return [((features - mean) / np.maximum(spread, 1e-6))[:, varied] for features in sets]

    def real_features(self, kind):
        """The feature network of this kind, and {sample: features} of real images; both made when first asked for."""
        key = self.network if kind == "trained" else kind
        if key not in self.real_sets:
            size = self.training_copies.shape[1]
            network = self.network if kind == "trained" else build_feature_network(size, self.seed)
            samples = {"training_sample": self.training_sample, "held_out_sample": self.held_out_sample}
            self.real_sets[key] = network, {name: extract(network, images) for name, images in samples.items()}
        return self.real_sets[key]

    def among_training_images(self, images):
        """`density_and_coverage` among training images; slices of the few held-out subjects would be too close."""
        return density_and_coverage(*self.equally_many(images, real="training_sample"))

    def compare(self, distance, images, kind="trained"):
        """A distance between features of generated and of held-out images, ten times for half of each."""
        sets, rng = self.equally_many(images, kind), np.random.default_rng(self.seed)
        half = max(len(sets[0]) // 2, 2)  # one image has no covariance
        return [
            distance(*(features[rng.permutation(len(features))[:half]] for features in sets)) for _ in range(SUBSETS)
        ]

    def tell_apart(self, images):
        """`two_sample_test` of as many images as there are held-out ones, learned from the rest: float, 0 or 1 each.

        The network learns from the second half of the training subjects; `other_training_images`, of the first half,
        may stand in for generated ones.
        """
        number = min(len(images) // 2, len(self.held_out_sample))
        if not number:
            return np.nan
        new, known = images[:number], images[number:]
        training = sample_images(self.training[len(self.training) // 2 :], len(known), self.seed)
        return two_sample_test(known[: len(training)], training, new, self.held_out_sample[:number], self.seed)

    def other_training_images(self):
        """The training images that `tell_apart` leaves alone, in the order of subjects.

        So the network is asked about other subjects than it has learned from, and cannot know them again.
        """
        return self.training[: len(self.training) // 2]

    def preferred_training_images(self, images):
        """For each training image, the share of `images` that the discriminator finds less real: float (images,).

        Half is what it does not tell apart. Of held-out images, how far it has learned the training images by heart.
        """

        def logits(images):
            images = as_images(images)[..., None]
            parts = [self.discriminator(images[start : start + 16]) for start in range(0, len(images), 16)]
            return np.concatenate(parts).reshape(len(images), -1).mean(axis=1)  # of patches, if it answers for each

        return (logits(self.training_sample)[:, None] > logits(images)).mean(axis=1)

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
            {name: array with a value per subject}: "subject", and the metrics that mean something for one subject, with
            `_real` beside them where they have no target; ratios have that subject's images below the line.
        """
        names = [name for name in self.names() if METRICS[name].for_subjects]
        found = {"subject": np.unique(subjects)}
        one, nearest = copy.copy(self), self.nearest(generated)  # to training images, the same for every subject
        one.nearest = lambda images: nearest if images is generated else self.nearest(images)
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
