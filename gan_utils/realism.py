"""How generated images differ from real ones as a set: texture, diversity, lattices, blur and memory.

Every figure means something only beside the same figure of real people who were held out; `judge` gives both.
Images are float (images, size, size, 1), -1..1, or uint8 0..255 as they lie in a `Split`.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy.ndimage import correlate1d
from scipy.spatial.distance import pdist, squareform

from gan_utils.datasets import scale_to_unit_range
from gan_utils.similarity import distance_to_nearest

SMALLEST_LEVEL = 16  # pixels
PATCH_SIZE = 7  # pixels
PATCHES_PER_IMAGE = 128
PROJECTIONS = 512
JUDGE_PROJECTIONS = 256  # half the time; figures of about 20 move by about 0.5
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # the low-pass filter of the pyramid
HIGH_FREQUENCY = 0.25  # cycles per pixel: half of what the finest stripes have
FLAT = 1e-4  # contrast far below a grey level of 8-bit pictures (0.008): rounding, not texture
COPY_SIZE = 64  # pixels
IMAGES_AT_ONCE = 64  # a whole training set as float32 would not fit into the memory of a small computer


class Ratio(NamedTuple):
    """Mean of a quantity over generated images, by its mean over real ones.

    Attributes:
        value: the ratio; 1 where both means are equal.
        spread: standard deviation over the generated images, in the same unit.
    """

    value: float
    spread: float


def ratio(generated, real):
    """`Ratio` of two arrays that hold one value an image."""
    return Ratio(float(np.mean(generated) / np.mean(real)), float(np.std(generated) / np.mean(real)))


def as_images(images):
    """float32 (images, size, size), -1..1.

    Raises:
        ValueError: another shape, or values outside -1..1.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != (images.shape[1], images.shape[1], 1):
        raise ValueError(f"images have the shape {images.shape}, expected (images, size, size, 1)")
    images = np.asarray(scale_to_unit_range(images) if images.dtype == np.uint8 else images, np.float32)
    if images.min() < -1.001 or images.max() > 1.001:
        raise ValueError(f"images span {images.min():g}..{images.max():g}, expected -1..1")
    return images[..., 0]


def draw_images(images, number, seed):
    """`number` of the images, none twice, or all of them in another order where there are no more."""
    return images[np.random.default_rng(seed).permutation(len(images))[:number]]


def sliced_wasserstein_distance(first, second, seed=1, patches_per_image=PATCHES_PER_IMAGE, projections=PROJECTIONS):
    """How far the texture of one set of images is from that of another, at every scale; 0 for equal sets.

    Karras et al. 2018, arXiv 1710.10196: 7x7 patches from every level of a Laplacian pyramid, and the Wasserstein
    distance between their projections on random directions. Each level of each set is brought to mean 0 and standard
    deviation 1 first, so overall contrast does not count. The fewer the images, the larger it is, even between real
    sets: compare only figures from equally many. Built up in notebooks/04_evaluate.ipynb.

    Args:
        first, second: images, -1..1, of one size; from the larger set as many are drawn as the smaller one has.
        seed: of the images, patches and directions that are drawn.
        patches_per_image: patches from each level of each image.
        projections: random directions a level.

    Returns:
        {level size in pixels: distance x1000, ..., "mean": their mean}, from the full size (the finest texture) down to
        16 pixels (the overall shape).

    Raises:
        ValueError: the sets differ in image size, or their values are not in -1..1.
    """
    number = min(len(first), len(second))
    # Both sets draw alike, so that the distance is symmetric, and exactly 0 from a set to itself.
    first, second = (as_images(draw_images(images, number, seed)) for images in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"images of {first.shape[1]} and {second.shape[1]} pixels cannot be compared: resize one set")
    draw = np.random.default_rng(seed)
    distances = {}
    for levels in zip(laplacian_pyramid(first), laplacian_pyramid(second), strict=True):
        size = levels[0].shape[1]
        corners = draw.integers(size - PATCH_SIZE + 1, size=(2, number, patches_per_image))
        directions = random_directions(projections, draw)
        distances[size] = 1000 * projected_distance(*(patches(level, corners) for level in levels), directions)
    return {**distances, "mean": float(np.mean(list(distances.values())))}


def laplacian_pyramid(images):
    """What each halving of the images loses, from fine to coarse, then the coarse rest: float32 (images, size, size).

    Halves while the size is even and the half has 16 pixels or more. Burt and Adelson 1983,
    doi 10.1109/TCOM.1983.1095851.
    """
    while images.shape[1] % 2 == 0 and images.shape[1] // 2 >= SMALLEST_LEVEL:
        halved = low_pass(images)[:, ::2, ::2]
        enlarged = np.zeros_like(images)
        enlarged[:, ::2, ::2] = 4 * halved  # a quarter of the pixels carry the brightness of all
        yield images - low_pass(enlarged)
        images = halved
    yield images


def low_pass(images):
    return correlate1d(correlate1d(images, BINOMIAL, axis=1, mode="mirror"), BINOMIAL, axis=2, mode="mirror")


def patches(level, corners):
    """7x7 patches of a pyramid level, as a set of mean 0 and standard deviation 1.

    Args:
        level: float32 (images, size, size).
        corners: int (2, images, patches): row and column of the upper left pixel of each.

    Returns:
        float32 (images * patches, 49).
    """
    windows = np.lib.stride_tricks.sliding_window_view(level, (PATCH_SIZE, PATCH_SIZE), axis=(1, 2))
    found = windows[np.arange(len(level))[:, None], *corners].reshape(-1, PATCH_SIZE**2)
    return (found - found.mean()) / max(found.std(), FLAT)


def random_directions(number, draw):
    """float32 (number, 49), of length 1, evenly spread over all directions."""
    directions = draw.standard_normal((number, PATCH_SIZE**2), np.float32)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def projected_distance(first, second, directions):
    """1-D Wasserstein distance between equally many vectors, projected on each direction; mean over the directions."""
    distances = []
    with ThreadPoolExecutor(2) as pool:  # sorting takes nearly all of the time, and leaves Python free
        for some in np.array_split(directions, -(-len(directions) // 128)):  # all at once would need much memory
            first_sorted, second_sorted = pool.map(np.sort, (some @ first.T, some @ second.T))
            distances.append(np.abs(first_sorted - second_sorted).mean(axis=1))
    return float(np.concatenate(distances).mean())


def diversity_ratio(generated, real):
    """`Ratio` of the mean distance between two generated images to that between two real ones.

    Well below 1: the generator makes too few different images (mode collapse); 0: always the same one. Built up in
    notebooks/04_evaluate.ipynb.

    Args:
        generated, real: two or more images each, -1..1.
    """
    return ratio(distance_to_others(generated), distance_to_others(real))


def distance_to_others(images):
    """Mean root mean square difference of each image to all others: float (images,), 0..2.

    Raises:
        ValueError: fewer than two images.
    """
    images = as_images(images)
    if len(images) < 2:
        raise ValueError("one image has no distance to others: give two or more")
    distances = squareform(pdist(images.reshape(len(images), -1))) / images.shape[1]  # root of the number of pixels
    return distances.sum(axis=1) / (len(images) - 1)


def radial_spectrum(images):
    """Mean power at each spatial frequency, whatever its direction.

    Built up in notebooks/04_evaluate.ipynb.

    Args:
        images: images, -1..1.

    Returns:
        (frequencies, power): float (bins,), cycles per pixel, from 0 past 0.5 (Nyquist's limit, a stripe every second
        pixel) to 0.71 (the corner of the spectrum: a chessboard of single pixels); and float (bins,), mean squared
        amplitude.
    """
    frequencies, powers = radial_spectra(images)
    return frequencies, powers.mean(axis=0)


def radial_spectra(images):
    """`radial_spectrum` of every image by itself: (frequencies, float (images, bins))."""
    images = as_images(images)
    size = images.shape[1]
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))
    rings = np.rint(np.hypot(rows, columns) * size).astype(int).ravel()
    powers = [np.bincount(rings, (np.abs(np.fft.fft2(image)) ** 2).ravel()) for image in images]
    return np.arange(rings.max() + 1) / size, np.stack(powers) / np.bincount(rings) / size**2


def high_frequency_ratio(generated, real):
    """`Ratio` of the power above half of Nyquist's limit (0.25 cycles per pixel) in the radial spectrum.

    The corners of the spectrum are in it: without them a chessboard of single pixels would go unseen.
    Well above 1: noise, or a lattice, as transposed convolutions with 3x3 kernels leave (Odena et al. 2016,
    doi 10.23915/distill.00003). Well below 1: blur. Built up in notebooks/04_evaluate.ipynb.

    Args:
        generated, real: images, -1..1.
    """
    return ratio(high_frequency_power(generated), high_frequency_power(real))


def high_frequency_power(images):
    """Power of each image above 0.25 cycles per pixel in the radial spectrum: float (images,)."""
    frequencies, powers = radial_spectra(images)
    return powers[:, frequencies > HIGH_FREQUENCY].sum(axis=1)


def nearest_ratio(generated, held_out, training):
    """How near generated images come to the training images, by how near other real people come to them.

    Well below 1: images learnt by heart, or blurred. Well above 1: noise, or anatomy that no one has. Built up in
    notebooks/04_evaluate.ipynb.

    Args:
        generated, held_out, training: images, -1..1; no person of held_out is in training.

    Returns:
        (`Ratio`, numbers): numbers is int (generated images,), the index of the nearest training image of each.
    """
    distances, numbers = distance_to_training(generated, training)
    return ratio(distances, distance_to_training(held_out, training)[0]), numbers


def distance_to_training(images, training, copies=None):
    """Root mean square difference of each image to the nearest training image, and which one that is.

    The nearest is looked for among copies of at most 64 pixels a side, which is much faster among thousands of large
    images; the distance to it is taken at full size, so that noise and blur count.

    Args:
        images, training: images, -1..1.
        copies: `small_copies(training)`, from callers that need them more than once.

    Returns:
        (distances, numbers): float (images,), 0..2, and int (images,), indices into training.
    """
    copies = small_copies(training) if copies is None else copies
    _, numbers = distance_to_nearest(small_copies(images), copies)
    differences = as_images(images) - as_images(training[numbers])
    return np.sqrt((differences**2).mean(axis=(1, 2))), numbers


def small_copies(images):
    """Images averaged down to at most 64 pixels a side (more where no halving leads there): float32 (images, ...)."""
    side = images.shape[1]
    while side > COPY_SIZE and side % 2 == 0:
        side //= 2
    shape = (-1, side, images.shape[1] // side, side, images.shape[1] // side)
    copies = np.empty((len(images), side, side), np.float32)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        some = slice(start, start + IMAGES_AT_ONCE)
        copies[some] = as_images(images[some]).reshape(shape).mean(axis=(2, 4))
    return copies


def judge(generated, held_out, training, seed=1, projections=JUDGE_PROJECTIONS):
    """All figures of generated images that need no download, each beside that of real people in their place.

    Built up in notebooks/04_evaluate.ipynb.

    Args:
        generated: generated images, -1..1; 256 or more give steady figures.
        held_out: real images of people whom the generator never saw; of one person only, they are no fair measure.
        training: all images that it was trained on.
        seed: of every random draw.
        projections: of the sliced Wasserstein distances.

    Returns:
        {name: float}. `swd` is the distance of generated images to held-out ones, `swd_real` that of training images to
        held-out ones, all three equally many. `diversity_ratio` and `high_frequency_ratio` have training images below
        the line and generated images above it, or held-out ones for `_real`. `nearest_ratio` has held-out images below
        the line, so that its real value is 1. A name with `_spread` is the standard deviation over images.
    """
    return Judge(held_out, training, len(generated), seed, projections)(generated)


class Judge:
    """`judge` for several sets of generated images: what hangs on the real images alone is worked out once.

    Args:
        held_out, training, seed, projections: as for `judge`.
        number: how many generated images there are in a set.

    Attributes:
        real_textures: what `textures` gives for as many training images.

    Example:
        >>> judged = Judge(held_out, training, number=64)
        >>> judged(images_of_epoch_5)["diversity_ratio"], judged(images_of_epoch_10)["diversity_ratio"]
    """

    def __init__(self, held_out, training, number, seed=1, projections=JUDGE_PROJECTIONS):
        self.held_out, self.training, self.copies = held_out, training, small_copies(training)
        self.seed, self.projections = seed, projections
        real = draw_images(training, number, seed)
        references = {"diversity_ratio": real, "high_frequency_ratio": real, "nearest_ratio": held_out}
        self.references = {name: self.measure(name, images) for name, images in references.items()}
        self.real_textures = self.textures(real)
        self.real_figures = {"swd_real": self.real_textures["mean"], **self.ratios(held_out, "_real")}

    def __call__(self, generated):
        """{name: float}, as `judge` says."""
        figures = {"swd": self.textures(generated)["mean"], **self.ratios(generated), **self.real_figures}
        return {name: round(float(figure), 4) for name, figure in figures.items()}

    def textures(self, images):
        """`sliced_wasserstein_distance` to the held-out images at each level, and the mean of all."""
        number = min(map(len, (images, self.held_out, self.training)))  # for both distances equally many
        drawn = draw_images(images, number, self.seed)
        distances = sliced_wasserstein_distance(drawn, self.held_out, self.seed, projections=self.projections)
        return {level: round(distance, 4) for level, distance in distances.items()}

    def measure(self, name, images):
        """What a ratio compares, of each image: float (images,)."""
        if name == "diversity_ratio":
            return distance_to_others(images)
        if name == "high_frequency_ratio":
            return high_frequency_power(images)
        return distance_to_training(images, self.training, self.copies)[0]

    def ratios(self, images, which=""):
        ratios = {name: ratio(self.measure(name, images), reference) for name, reference in self.references.items()}
        values = {f"{name}{which}": found.value for name, found in ratios.items()}
        return values | {f"{name}{which}_spread": found.spread for name, found in ratios.items()}
