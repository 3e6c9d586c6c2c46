"""What small networks see in images: features to compare sets of images by, with nothing to download.

One network has random weights, one is trained here, on training subjects, for labels that come with every slice. Built
up in notebooks/04_evaluate.ipynb.
"""

import keras
import numpy as np
from keras import layers
from scipy.spatial.distance import cdist

from gan_utils import ProgressLine, atomic_write
from gan_utils.image_statistics import small_copies
from gan_utils.networks import load_network

LEVELS = 8  # parts of a scan to tell apart
TURNS = 8  # quarter turns, each mirrored or not
BATCH_SIZE = 64
MOST_SHIFT = 1 / 16  # of the width, so that the place in the image tells nothing
NEIGHBOURS = 5  # k of density and coverage


def build_feature_network(size, seed):
    """An untrained network: images float (images, size, size, 1) -> features (images, 64)."""
    images = keras.Input((size, size, 1), name="images")
    x = images
    for layer, channels in enumerate((16, 32, 64, 64)):
        start = keras.initializers.HeNormal(seed + layer)
        x = layers.Conv2D(channels, 3, 2, padding="same", activation="relu", kernel_initializer=start)(x)
    return keras.Model(images, layers.GlobalAveragePooling2D()(x), name="feature_network")


def train_feature_network(split, seed=1, steps=1000):
    """A feature network that has learned to tell how a slice was turned, and from which part of the scan it is.

    Both labels come with the data (Gidaris et al. 2018, arXiv 1803.07728, for turns). Images of more than 64 pixels a
    side are averaged down.

    Args:
        split: `Split` of the training subjects.
        seed: of weights, batches and turns; the same seed gives the same network.
        steps: training steps, of 64 images each.

    Returns:
        `keras.Model`: `small_copies` of images, float (images, size, size), -> features (images, 64).
    """
    images, rng = small_copies(split.images), np.random.default_rng(seed)
    levels = np.minimum(split.levels[:, 0] * LEVELS, LEVELS - 1).astype(int)
    network = build_feature_network(images.shape[1], seed)
    answers = [dense(TURNS, seed + 10)(network.output), dense(LEVELS, seed + 11)(network.output)]
    pupil = keras.Model(network.input, answers)
    pupil.compile("adam", [keras.losses.SparseCategoricalCrossentropy(from_logits=True)] * 2)
    with ProgressLine("Training the feature network, step") as line:
        for step in range(steps):
            chosen = rng.integers(len(images), size=BATCH_SIZE)
            turns = rng.integers(TURNS, size=BATCH_SIZE)
            batch = np.stack([turned(*pair) for pair in zip(shifted(images[chosen], rng), turns, strict=True)])
            pupil.train_on_batch(batch[..., None], [turns, levels[chosen]])
            line.update(step + 1, steps)
    return network


def kept_feature_network(folder, split, seed=1):
    """The feature network in a run's folder, features.keras; `train_feature_network` makes it the first time."""
    path = folder / "features.keras"
    if not path.exists():
        with atomic_write(path) as unfinished:
            train_feature_network(split, seed).save(unfinished)
    return load_network(path)


def dense(units, seed):
    return layers.Dense(units, kernel_initializer=keras.initializers.HeNormal(seed))


def turned(image, turns):
    """An image turned by `turns` quarters; from 4 on mirrored as well."""
    image = np.rot90(image, turns % 4)
    return image[:, ::-1] if turns >= 4 else image


def shifted(images, rng):
    """Images (images, size, size), each moved at random by up to a sixteenth of its width; what leaves comes back."""
    most = round(MOST_SHIFT * images.shape[1])
    shifts = rng.integers(-most, most + 1, size=(len(images), 2))
    return np.stack([np.roll(image, shift, axis=(0, 1)) for image, shift in zip(images, shifts, strict=True)])


def extract(network, images):
    """Features of images, float (images, size, size, 1) or uint8: float64 (images, features)."""
    copies = small_copies(images)[..., None]
    parts = [network(copies[start : start + 256]) for start in range(0, len(copies), 256)]
    return np.concatenate(parts).astype(np.float64)


def frechet_distance(first, second):
    """Fréchet distance of the normal distributions that two sets of features (images, features) would have.

    Heusel et al. 2017, arXiv 1706.08500. The fewer the images, the larger it is; NaN of one image alone.
    """
    if min(len(first), len(second)) < 2:
        return np.nan
    covariances = np.cov(first.T), np.cov(second.T)
    both = np.sqrt(np.maximum(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0))
    means = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    return float(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * both.sum())


def kernel_distance(first, second):
    """Squared maximum mean discrepancy of two sets of features, by a cubic kernel; about 0 for equal distributions.

    Binkowski et al. 2018, arXiv 1801.01401. Its mean does not depend on how many images there are; it may be negative.
    """

    def similarity(one, other):
        return (one @ other.T / one.shape[1] + 1) ** 3

    def mean_of_pairs(features):  # without each image's similarity to itself
        pairs = similarity(features, features)
        return (pairs.sum() - np.trace(pairs)) / (len(pairs) * (len(pairs) - 1))

    return float(mean_of_pairs(first) + mean_of_pairs(second) - 2 * similarity(first, second).mean())


def density_and_coverage(generated, real):
    """How deep generated images are among real ones, and how many real ones have a generated image nearby.

    Naeem et al. 2020, arXiv 2002.09797. Around each real image is a ball that reaches to its fifth real neighbour.
    Density is the number of balls that a generated image is in, divided by 5: around 1 for equal sets; coverage is the
    share of balls with a generated image in them: near 1. Take as many generated as real images.

    Args:
        generated, real: features, float (images, features).

    Returns:
        (float (generated,), float (real,)): for each image; their means are what is reported.
    """
    radii = np.sort(cdist(real, real), axis=1)[:, min(NEIGHBOURS, len(real) - 1)]  # the first is the image itself
    inside = cdist(real, generated) < radii[:, None]
    return inside.sum(axis=0) / NEIGHBOURS, inside.any(axis=1).astype(float)


def two_sample_test(generated, real, new_generated, new_real, seed=1, steps=300):
    """Whether a fresh network can tell generated from real images that it has not seen.

    Lopez-Paz and Oquab 2017, arXiv 1610.06545: half right is what a coin has, and all that is possible between equal
    sets.

    Args:
        generated, real: images to learn from, equally many.
        new_generated, new_real: images to be tested by, equally many; real ones of other subjects.
        seed: of weights and batches.
        steps: training steps, of 64 images each.

    Returns:
        float (new images,): 1 where the network was right, else 0; first the generated ones.
    """
    sets, rng = [small_copies(images) for images in (generated, real)], np.random.default_rng(seed)
    network = build_feature_network(sets[0].shape[1], seed)
    critic = keras.Model(network.input, dense(1, seed + 10)(network.output))
    critic.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    labels = np.repeat([0.0, 1.0], BATCH_SIZE // 2)[:, None]
    for _ in range(steps):
        batch = np.concatenate([images[rng.integers(len(images), size=BATCH_SIZE // 2)] for images in sets])
        critic.train_on_batch(shifted(batch, rng)[..., None], labels)
    says_real = [extract(critic, images)[:, 0] > 0 for images in (new_generated, new_real)]
    return np.concatenate([~says_real[0], says_real[1]]).astype(float)
