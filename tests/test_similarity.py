import numpy as np
import pytest
from skimage.metrics import structural_similarity

from gan_utils.settings import choose_settings
from gan_utils.similarity import (
    distance_to_nearest,
    draw_reference_batches,
    local_moments,
    ssim,
    ssim_all_pairs,
    ssim_with_batches,
)


def scikit_image_ssim(first, second):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2}
    return structural_similarity(first[..., 0].astype(float), second[..., 0].astype(float), **options)


@pytest.fixture
def images():
    """Noise, a ramp, a bright disc on black, black and white: flat and busy, dark and bright."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    disc = np.where(x**2 + y**2 < 0.4, 0.5 + 0.3 * np.sin(20 * x), -1)
    black = np.full_like(x, -1)
    stack = [draw.uniform(-1, 1, x.shape), x, disc, black, -black]
    return np.stack(stack).astype(np.float32)[..., None]


def test_ssim_equals_scikit_image(images):
    ours = ssim_all_pairs(images, images)
    theirs = [[scikit_image_ssim(first, second) for second in images] for first in images]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_ssim_equals_scikit_image_at_the_published_size():
    draw = np.random.default_rng(1)
    first, second = (np.clip(draw.normal(-0.5, 0.4, (1, 256, 256, 1)), -1, 1) for _ in range(2))
    ours = ssim(local_moments(first), local_moments(second))
    np.testing.assert_allclose(ours, [scikit_image_ssim(first[0], second[0])], atol=1e-5)


def test_image_k_meets_image_k_of_every_batch(images):
    scores = ssim_with_batches(images, [local_moments(batch) for batch in (images, images[::-1])])
    assert scores.shape == (2, 5)
    np.testing.assert_allclose(scores[0], 1, atol=1e-6)
    np.testing.assert_allclose(scores[1, 0], scikit_image_ssim(images[0], images[4]), atol=1e-5)


def test_unscaled_images_are_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"divide by 127\.5 and subtract 1"):
        local_moments(np.full((1, 32, 32, 1), 255, np.uint8))


def test_reference_batches_are_drawn_once_from_the_seed():
    training = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 1), dtype=np.uint8)
    settings = choose_settings("brain", "smoke", ssim_batches=5)

    def draw(settings):
        return np.stack([batch.images for batch in draw_reference_batches(training, settings)])

    first, second = draw(settings), draw(settings)
    assert first.shape == (5, 16, 32, 32)
    np.testing.assert_array_equal(first, second)
    other = draw(choose_settings("brain", "smoke", ssim_batches=5, seed=2))
    assert (first != other).any()
    assert len(np.unique(first.reshape(80, -1), axis=0)) == 80  # no image twice while there are enough


def test_nearest_image_is_found():
    others = np.random.default_rng(0).uniform(0, 255, (20, 8, 8))
    distances, numbers = distance_to_nearest(others[[7, 3]] + 2, others)
    assert numbers.tolist() == [7, 3]
    np.testing.assert_allclose(distances, 2, atol=1e-2)
