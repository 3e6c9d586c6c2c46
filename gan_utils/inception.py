"""KID, the distance between generated and real images as a network sees them that was trained on photographs."""

import socket
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import keras
import numpy as np

from gan_utils.realism import as_images, draw_images

INCEPTION_SIZE = 299  # pixels, what InceptionV3 was trained on
MOST_IMAGES = 256  # of each set; InceptionV3 takes about 0.1 s an image on two CPU cores
NETWORK_TIMEOUT = 5  # seconds without an answer before a download is given up


class WeightsNotAvailable(OSError):
    """The weights of InceptionV3 are neither on this computer nor can they be downloaded."""


def judge_with_inception(generated, held_out, training, seed=1):
    """KID of generated images and of training images to held-out ones, all equally many.

    Built up in notebooks/04_evaluate.ipynb.

    Args:
        generated, held_out, training: images, -1..1, four or more; at most 256 of each are used.
        seed: of every random draw.

    Returns:
        {"kid": float, "kid_spread", "kid_real", "kid_real_spread"}; the spreads are over random subsets of the images.

    Raises:
        WeightsNotAvailable: see `inception_features`.
    """
    sets = generated, held_out, training
    number = min(MOST_IMAGES, *map(len, sets))
    generated, held_out, training = (inception_features(draw_images(images, number, seed)) for images in sets)
    figures = {}
    for name, features in (("kid", generated), ("kid_real", training)):
        mean, spread = kernel_inception_distance(features, held_out, seed=seed)
        figures |= {name: round(mean, 4), f"{name}_spread": round(spread, 4)}
    return figures


def kernel_inception_distance(first_features, second_features, subsets=50, subset_size=None, seed=1):
    """Distance between two sets of images as InceptionV3 sees them, x1000; 0 on average for sets of one kind.

    Binkowski et al. 2018, arXiv 1801.01401: squared maximum mean discrepancy with a polynomial kernel of degree 3,
    unbiased, so that it may come out below 0. Built up in notebooks/04_evaluate.ipynb.

    Args:
        first_features, second_features: float (images, features), from `inception_features`.
        subsets: how many random subsets the distance is worked out for.
        subset_size: images in each; None: half of the smaller set, at most 1000.
        seed: of the subsets.

    Returns:
        (mean, standard deviation) over the subsets.

    Raises:
        ValueError: subset_size is below 2 or above the size of a set.
    """
    sets = [np.asarray(features, float) for features in (first_features, second_features)]
    smaller = min(map(len, sets))
    subset_size = min(smaller // 2, 1000) if subset_size is None else subset_size
    if not 2 <= subset_size <= smaller:
        raise ValueError(f"subsets of {subset_size} cannot be drawn from {smaller} images: choose 2 to {smaller}")
    draw = np.random.default_rng(seed)
    distances = [
        squared_discrepancy(*(draw.choice(features, subset_size, replace=False) for features in sets))
        for _ in range(subsets)
    ]
    return 1000 * float(np.mean(distances)), 1000 * float(np.std(distances))


def squared_discrepancy(first, second):
    """Unbiased squared maximum mean discrepancy of two equally large sets of vectors."""
    number, features = first.shape
    within_first, within_second, between = (
        (x @ y.T / features + 1) ** 3 for x, y in ((first, first), (second, second), (first, second))
    )
    within = within_first + within_second
    return (within.sum() - np.trace(within)) / (number * (number - 1)) - 2 * between.mean()


def inception_features(images, batch_size=32):
    """What InceptionV3, trained on photographs (ImageNet), sees in images: float32 (images, 2048).

    Downloads 88 MB of weights the first time, to ~/.keras/models. They are Keras' weights, not those of the published
    FID and KID figures, so compare only figures that were made here.

    Args:
        images: images, -1..1, which are enlarged to 299 pixels a side and shown as grey colour pictures.
        batch_size: images at a time.

    Raises:
        WeightsNotAvailable: the weights are not on this computer and cannot be downloaded.
    """
    images = as_images(images)[..., None]
    with network_timeout(NETWORK_TIMEOUT), redirect_stdout(StringIO()):  # no bar for every block of a download
        try:
            network = keras.applications.InceptionV3(include_top=False, pooling="avg", weights="imagenet")
        except Exception as error:  # Keras raises nothing more special where a download fails
            reason = " ".join(str(error).split())
            raise WeightsNotAvailable(f"No KID: the weights of InceptionV3 cannot be had here. {reason}") from error
    features = []
    for start in range(0, len(images), batch_size):
        size = INCEPTION_SIZE, INCEPTION_SIZE
        batch = keras.ops.image.resize(images[start : start + batch_size], size, antialias=True)
        features.append(np.asarray(network(keras.ops.repeat(batch, 3, axis=-1), training=False)))
    return np.concatenate(features)


@contextmanager
def network_timeout(seconds):
    """Connections made inside give up after that many seconds of silence; Keras itself would wait for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
