"""What is measured in images: local statistics (SSIM), patches at every scale, spectra, nearest neighbours.

Images are float (images, size, size, 1), -1..1, or uint8 0..255 as in a `Split`.
"""

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter
from scipy.spatial.distance import pdist, squareform
from skimage.measure import block_reduce

from gan_utils.data import how_to_scale, scale_to_unit_range

C1, C2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the constants of SSIM for a data range of 2: images span -1..1
SSIM_IMAGES = 16  # in the grid of an epoch, and in a batch of the published SSIM
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # the low-pass filter of the Laplacian pyramid
PATCH_SIZE, PATCHES_PER_IMAGE = 7, 128  # pixels; random patches of each level
HIGH_FREQUENCY = 0.25  # cycles per pixel: half of Nyquist's limit


def as_images(images):
    """float32 (images, size, size), -1..1; an error where values are out of this range."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != (images.shape[1], images.shape[1], 1):
        raise ValueError(f"images have the shape {images.shape}, expected (images, size, size, 1)")
    images = np.asarray(scale_to_unit_range(images) if images.dtype == np.uint8 else images, np.float32)
    if images.min() < -1.001 or images.max() > 1.001:
        low, high = images.min(), images.max()
        raise ValueError(f"images span {low:g}..{high:g}, expected -1..1: {how_to_scale(low, high)}")
    return images[..., 0]


def sample_images(images, number, seed):
    """`number` of the images, none twice, or all of them in another order where there are no more."""
    return images[np.random.default_rng(seed).permutation(len(images))[:number]]


def ssim(first, second):
    """Structural similarity of images, pair by pair: (..., size, size), -1..1, that broadcast -> (...), -1..1.

    Wang et al. 2004, doi 10.1109/TIP.2003.819861, with a Gaussian window of 11 pixels. Equals scikit-image's
    `structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=2)`.
    """

    def blur(images):
        return gaussian_filter(images, sigma=1.5, truncate=3.5, axes=(-2, -1))[..., 5:-5, 5:-5]

    mean_1, mean_2 = blur(first), blur(second)
    variance_1, variance_2 = blur(first**2) - mean_1**2, blur(second**2) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    similar = (2 * mean_1 * mean_2 + C1) * (2 * covariance + C2)
    return (similar / ((mean_1**2 + mean_2**2 + C1) * (variance_1 + variance_2 + C2))).mean(axis=(-2, -1))


def sample_reference_batches(training_images, settings):
    """The training batches that the published maximum compares with: (ssim_batches, 16, size, size, 1)."""
    shape = settings.ssim_batches, SSIM_IMAGES
    few = len(training_images) < shape[0] * shape[1]
    return training_images[np.random.default_rng(settings.seed).choice(len(training_images), shape, replace=few)]


def ssim_with_batches(images, reference_batches):
    """SSIM of image k with image k of every batch: float (batches, images), for up to 16 images."""
    images = as_images(images)
    return np.stack([ssim(images, as_images(batch[: len(images)])) for batch in reference_batches])


def ssim_all_pairs(images, others):
    """SSIM of every image with every other one: float (images, others)."""
    images, others = as_images(images)[:, None], as_images(others)
    parts = [ssim(images, others[start : start + 8]) for start in range(0, len(others), 8)]  # all would fill the memory
    return np.concatenate(parts, axis=1)


def sliced_wasserstein_distance(first, second, seed=1, projections=256):
    """How far the texture of one set of images is from that of another, at every scale; 0 for equal sets.

    Karras et al. 2018, arXiv 1710.10196: 7x7 patches from every level of a Laplacian pyramid, each level brought to
    mean 0 and standard deviation 1, and the Wasserstein distance between their projections on random directions. The
    fewer the images, the larger it is: compare only values from equally many. Built up in notebooks/04_evaluate.ipynb.

    Args:
        first, second: images of one size; from the larger set as many are sampled as the smaller one has.
        seed: of the images, patches and directions.
        projections: random directions a level.

    Returns:
        {level size in pixels: distance x1000, ..., "mean": their mean}, from the full size (the finest texture) down to
        16 pixels or a few more (the overall shape).
    """
    number = min(len(first), len(second))
    first, second = (as_images(sample_images(images, number, seed)) for images in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"images of {first.shape[1]} and {second.shape[1]} pixels cannot be compared: resize one set")
    rng, distances = np.random.default_rng(seed), {}
    for levels in zip(laplacian_pyramid(first), laplacian_pyramid(second), strict=True):
        size = levels[0].shape[1]
        corners = rng.integers(size - PATCH_SIZE + 1, size=(2, number, PATCHES_PER_IMAGE))
        directions = rng.standard_normal((projections, PATCH_SIZE**2), np.float32)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        one, other = (np.sort(directions @ patches(level, corners).T) for level in levels)
        distances[size] = 1000 * float(np.abs(one - other).mean())
    return {**distances, "mean": float(np.mean(list(distances.values())))}


def laplacian_pyramid(images):
    """What each halving of the images loses, from fine to coarse, then the coarse rest: float32 (images, size, size).

    Burt and Adelson 1983, doi 10.1109/TCOM.1983.1095851.
    """

    def low_pass(images):
        return correlate1d(correlate1d(images, BINOMIAL, axis=1, mode="mirror"), BINOMIAL, axis=2, mode="mirror")

    while images.shape[1] % 2 == 0 and images.shape[1] >= 32:  # halves of 16 pixels or more
        halved = low_pass(images)[:, ::2, ::2]
        enlarged = np.zeros_like(images)
        enlarged[:, ::2, ::2] = 4 * halved  # a quarter of the pixels carry the brightness of all
        yield images - low_pass(enlarged)
        images = halved
    yield images


def patches(level, corners):
    """The 7x7 patches of a pyramid level at `corners` (2, images, patches): float32 (images * patches, 49)."""
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH_SIZE, PATCH_SIZE), axis=(1, 2))
    found = windows[np.arange(len(level))[:, None], *corners].reshape(-1, PATCH_SIZE**2)
    return (found - found.mean()) / max(found.std(), 1e-4)  # less contrast than that is rounding, not texture


def distance_to_others(images):
    """Mean root mean square difference of each image to all others: float (images,), 0..2; NaN of one image alone."""
    images = as_images(images)
    distances = squareform(pdist(images.reshape(len(images), -1))) / images.shape[1]  # root of the number of pixels
    return distances.sum(axis=1) / (len(images) - 1 or np.nan)


def radial_spectra(images):
    """Mean power of each image at each spatial frequency, whatever its direction.

    Returns:
        (frequencies, powers): float (bins,), cycles per pixel, from 0 past 0.5 (Nyquist's limit, a stripe every second
        pixel) to 0.71 (a chessboard of single pixels); and float (images, bins), mean squared amplitude.
    """
    images = as_images(images)
    size = images.shape[1]
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))
    rings = np.rint(np.hypot(rows, columns) * size).astype(int).ravel()
    powers = [np.bincount(rings, (np.abs(np.fft.fft2(image)) ** 2).ravel()) for image in images]
    return np.arange(rings.max() + 1) / size, np.stack(powers) / np.bincount(rings) / size**2


def high_frequency_power(images):
    """Power of each image above 0.25 cycles per pixel in the radial spectrum, its corners included: float (images,)."""
    frequencies, powers = radial_spectra(images)
    return powers[:, frequencies > HIGH_FREQUENCY].sum(axis=1)


def distance_to_nearest(images, others):
    """Root mean square difference of each image to the most similar of others, (height, width) each, and its index.

    Returns:
        (distances, numbers): float32 (images,) in the unit of the pixels, and int (images,), indices into others.
    """
    images, others = (np.asarray(stack, np.float32).reshape(len(stack), -1) for stack in (images, others))
    lengths = [np.einsum("ij,ij->i", stack, stack) for stack in (images, others)]  # with no squared copy in memory
    squares = lengths[0][:, None] + lengths[1] - 2 * images @ others.T
    return np.sqrt(np.maximum(squares.min(1), 0) / images.shape[1]), squares.argmin(1)


def small_copies(images):
    """Images averaged down to at most 64 pixels a side (more where no halving leads there): float32 (images, ...)."""
    factor = 1
    while images.shape[1] // factor > 64 and images.shape[1] // factor % 2 == 0:
        factor *= 2
    copies = block_reduce(images, (1, factor, factor, 1), np.mean)[..., 0].astype(np.float32)
    return scale_to_unit_range(copies) if images.dtype == np.uint8 else copies


def distance_to_training(images, training, copies=None):
    """Root mean square difference of each image to the nearest training image, and which one that is.

    The nearest is looked for among copies of at most 64 pixels a side, `small_copies(training)`, much faster among
    thousands of large images; the distance to it is taken at full size, so that noise and blur count.
    """
    copies = small_copies(training) if copies is None else copies
    _, numbers = distance_to_nearest(small_copies(images), copies)
    differences = as_images(images) - as_images(training[numbers])
    return np.sqrt((differences**2).mean(axis=(1, 2))), numbers
