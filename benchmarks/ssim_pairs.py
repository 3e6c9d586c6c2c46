"""SSIM of 16 images against 800, 256x256: as gan_utils does it, and pair by pair as its peers do."""

import numpy as np

IMAGES, OTHERS, SIZE = 16, 800, 256
PEERS_OTHERS = 20  # of the 800, for the peers, whose time grows evenly with the number of pairs


def two_sets():
    """Float images (number, 256, 256, 1), -1..1, of smooth noise with fine grain."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(1)
    sets = []
    for number in (IMAGES, OTHERS):
        smooth = gaussian_filter(rng.standard_normal((number, SIZE, SIZE), np.float32), (0, 3, 3))
        grain = 0.05 * rng.standard_normal((number, SIZE, SIZE), np.float32)
        sets.append(np.clip(smooth / (3 * smooth.std()) + grain, -1, 1)[..., None])
    return sets


def contestant(of_pairs, others):
    """Work on 16 x others pairs; it says what it makes of the first ones, since all have to agree."""
    return lambda: of_pairs(others), {"pairs": IMAGES * others, "ssim": np.ravel(of_pairs(PEERS_OTHERS)).tolist()}


def by_gan_utils():
    from gan_utils.image_statistics import ssim_all_pairs

    first, second = two_sets()
    return contestant(lambda others: ssim_all_pairs(first, second[:others]), OTHERS)


def by_scikit_image():
    from skimage.metrics import structural_similarity

    first, second = (images[..., 0].astype("float64") for images in two_sets())
    # The window of Wang et al. 2004, which the others use.
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}

    def of_pairs(others):
        return [[structural_similarity(one, other, **options) for other in second[:others]] for one in first]

    return contestant(of_pairs, PEERS_OTHERS)


def by_tensorflow():
    import tensorflow as tf

    first, second = (tf.constant(images) for images in two_sets())

    @tf.function
    def of_one(image, others):
        return tf.image.ssim(image, others, max_val=2.0)

    return contestant(lambda others: [of_one(image, second[:others]).numpy() for image in first], PEERS_OTHERS)


CONTESTANTS = {
    "gan_utils": ("ssim_pairs:by_gan_utils", {}),
    "tf.image.ssim": ("ssim_pairs:by_tensorflow", {}),
    "scikit-image": ("ssim_pairs:by_scikit_image", {}),
}
