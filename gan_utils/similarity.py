"""SSIM, the figure that the published reports use, and the floors and ceilings that give it a meaning."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gan_utils.datasets import scale_to_unit_range
from gan_utils.devices import count_usable_cores

WINDOW_RADIUS = 5  # pixels: an 11x11 window
WINDOW_SIGMA = 1.5  # pixels
DATA_RANGE = 2.0  # images span -1..1
C1, C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
PAIRS_AT_ONCE = 4  # few enough for the processor's cache


@dataclass(frozen=True)
class LocalMoments:
    """Images with what SSIM needs of each of them, worked out once however many partners they meet.

    Attributes:
        images: float32 (..., size, size), 0..2. Black is an exact 0 here, which keeps float32 variances exact there.
        mean: float32 (..., size - 10, size - 10), 0..2, mean under the window.
        variance: float32 (..., size - 10, size - 10), variance under the window.
    """

    images: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    def __getitem__(self, index):
        return LocalMoments(self.images[index], self.mean[index], self.variance[index])


@lru_cache  # every blur of every epoch asks for the same one
def window_matrix(size):
    """float32 (size, size - 10) whose product with an image blurs its rows with the Gaussian window."""
    distance = np.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    weights = np.exp(-0.5 * (distance / WINDOW_SIGMA) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size - 2 * WINDOW_RADIUS), np.float32)
    for column in range(matrix.shape[1]):
        matrix[column : column + len(weights), column] = weights
    return matrix


def blur(images):
    """Images (..., size, size) under the Gaussian window: (..., size - 10, size - 10).

    The window is a product of a column and a row, so rows are blurred first, then columns.
    """
    return np.swapaxes(blur_rows(np.swapaxes(blur_rows(images), -1, -2)), -1, -2)


def blur_rows(images):
    """Piece by piece, because the matrix of a whole row is nearly all zeros."""
    width = images.shape[-1] - 2 * WINDOW_RADIUS
    piece = next((n for n in range(32, width) if width % n == 0), width)
    overlap = piece + 2 * WINDOW_RADIUS
    pieces = np.lib.stride_tricks.sliding_window_view(images, overlap, axis=-1)[..., ::piece, :]
    return (pieces @ window_matrix(overlap)).reshape(*images.shape[:-1], width)


def local_moments(images):
    """`LocalMoments` of images, float (..., size, size, 1), -1..1.

    Raises:
        ValueError: values outside -1..1, usually because uint8 images were not scaled.
    """
    images = np.asarray(images, np.float32)[..., 0]
    if images.min() < -1.001 or images.max() > 1.001:
        raise ValueError(
            f"images span {images.min():g}..{images.max():g}, expected -1..1: divide by 127.5 and subtract 1"
        )
    images = images + 1
    mean = blur(images)
    return LocalMoments(images, mean, blur(images**2) - mean**2)


def ssim(first, second):
    """Structural similarity of images, pair by pair, averaged over each image.

    Wang et al. 2004, doi 10.1109/TIP.2003.819861. Equals scikit-image's `structural_similarity` with
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2, within 1e-5.
    Built up in notebooks/04_evaluate.ipynb.

    Args:
        first, second: `LocalMoments` of images whose shapes broadcast: (16, ...) with (16, ...) gives 16 pairs,
            (16, 1, ...) with (300, ...) gives 16 x 300.

    Returns:
        float32 array with one value a pair, -1..1; 1 for equal images.
    """
    covariance = blur(first.images * second.images) - first.mean * second.mean
    first_mean, second_mean = first.mean - 1, second.mean - 1  # back to -1..1, for brightness is not relative
    shared = (2 * first_mean * second_mean + C1) * (2 * covariance + C2)
    of_both = (first_mean**2 + second_mean**2 + C1) * (first.variance + second.variance + C2)
    return (shared / of_both).mean(axis=(-2, -1))


def draw_reference_batches(training_images, settings, images_in_batch=16):
    """The training batches that every epoch's images are compared with: drawn once, from the seed.

    Args:
        training_images: uint8 (slices, image_size, image_size, 1), 0..255.
        settings: `Settings`; uses ssim_batches and seed.

    Returns:
        A list of `LocalMoments`, one a batch.
    """
    draw = np.random.default_rng(settings.seed)
    shape = settings.ssim_batches, images_in_batch
    few = len(training_images) < shape[0] * shape[1]
    numbers = draw.choice(len(training_images), shape, replace=few)
    return [local_moments(scale_to_unit_range(training_images[batch])) for batch in numbers]


def ssim_with_batches(images, reference_batches):
    """SSIM of image k with image k of every batch: float32 (batches, images).

    The published figure is the maximum of them all. Read it with care: an all-black image scores high, too.

    Args:
        images: float (images, image_size, image_size, 1), -1..1.
        reference_batches: from `draw_reference_batches`.
    """
    images = local_moments(images)
    return np.stack(in_threads(lambda batch: ssim(images, reference_batches[batch]), len(reference_batches)))


def in_threads(work, number):
    """[work(0), work(1), ...], on all cores: NumPy lets threads run side by side."""
    with ThreadPoolExecutor(count_usable_cores()) as pool:
        return list(pool.map(work, range(number)))


def published_ssim(data, settings):
    """The SSIM figure of the published report of an experiment, as a function of generated images.

    Brains: the maximum over all pairs with training batches (`ssim_with_batches`). Knees: the mean over all pairs with
    the slices of the validation patient (`ssim_all_pairs`).

    Args:
        data: `SliceData`.
        settings: `Settings`; uses experiment, ssim_batches and seed.

    Returns:
        A function: float (images, image_size, image_size, 1), -1..1 -> float.
    """
    if settings.experiment == "brain":
        reference_batches = draw_reference_batches(data.train.images, settings)
        return lambda images: float(ssim_with_batches(images, reference_batches).max())
    validation_moments = local_moments(scale_to_unit_range(data.validate.images))
    return lambda images: float(ssim_all_pairs(images, validation_moments).mean())


def ssim_all_pairs(images, others):
    """SSIM of every image with every other one: float32 (images, others).

    Args:
        images: float (images, image_size, image_size, 1), -1..1.
        others: the same for (others, ...), or their `LocalMoments`.
    """
    images = local_moments(images)
    others = others if isinstance(others, LocalMoments) else local_moments(others)
    number = len(others.images)

    def with_some(part):
        some = others[part * PAIRS_AT_ONCE : (part + 1) * PAIRS_AT_ONCE]
        return np.stack([ssim(images[k], some) for k in range(len(images.images))])

    return np.concatenate(in_threads(with_some, -(-number // PAIRS_AT_ONCE)), axis=1)


def distance_to_nearest(images, others):
    """Root mean square difference of each image to the most similar one among others, and which one that is.

    Args:
        images: float or uint8 (images, height, width).
        others: the same unit and size, (others, height, width).

    Returns:
        (distances, numbers): float32 (images,) in the unit of the pixels, and int (images,), indices into others.
    """
    images, others = (np.asarray(stack, np.float32).reshape(len(stack), -1) for stack in (images, others))
    lengths = [np.einsum("ij,ij->i", stack, stack) for stack in (images, others)]  # with no squared copy in memory
    squares = lengths[0][:, None] + lengths[1] - 2 * images @ others.T
    nearest = squares.argmin(1)
    return np.sqrt(np.maximum(squares.min(1), 0) / images.shape[1]), nearest
