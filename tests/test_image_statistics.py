"""What is measured in images, beside other implementations of the same formulas and images whose values are known."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance
from skimage.metrics import structural_similarity

from conftest import blurred, chessboard, make_images, stamped
from gan_utils.image_statistics import (
    as_images,
    distance_to_nearest,
    distance_to_others,
    distance_to_training,
    high_frequency_power,
    laplacian_pyramid,
    patches,
    radial_spectra,
    sample_images,
    sample_reference_batches,
    sliced_wasserstein_distance,
    small_copies,
    ssim,
    ssim_all_pairs,
    ssim_with_batches,
)
from gan_utils.settings import choose_settings

# ---- Images and samples ----------------------------------------------------------------------------------------


def test_bytes_and_floats_are_the_same_images():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    images = as_images(grey)
    assert (images.shape, images.dtype, images.min(), images.max()) == ((1, 16, 16), np.float32, -1, 1)
    np.testing.assert_allclose(images, as_images(grey / 127.5 - 1), atol=1e-6)


def test_what_are_no_images_is_refused_with_the_fix(good):
    for wrong, fix in (((good + 1) * 127.5, "divide by 127.5 and subtract 1"), (3 * good, "clip them, as networks")):
        with pytest.raises(ValueError, match=rf"images span -?\d.*expected -1\.\.1: {fix}"):
            as_images(wrong)
    for wrong in (good[..., 0], good[:, :16], np.concatenate([good] * 3, axis=-1)):
        with pytest.raises(ValueError, match=r"expected \(images, size, size, 1\)"):
            high_frequency_power(wrong)


def test_sampled_images_are_there_once_and_chosen_by_the_seed():
    numbers = np.arange(50)
    sampled = sample_images(numbers, 20, seed=1)
    assert len(set(sampled)) == 20
    np.testing.assert_array_equal(sampled, sample_images(numbers, 20, seed=1))
    assert (sampled != sample_images(numbers, 20, seed=2)).any()
    assert sorted(sample_images(numbers, 80, seed=1)) == numbers.tolist()


# ---- SSIM ------------------------------------------------------------------------------------------------------


def scikit_image_ssim(first, second):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2}
    return structural_similarity(first, second, **options)


def flat_and_busy(size):
    """float64 (5, size, size): noise, a ramp, a bright disc on black, black and white."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    disc = np.where(x**2 + y**2 < 0.4, 0.5 + 0.3 * np.sin(20 * x), -1)
    black = np.full_like(x, -1)
    return np.stack([np.random.default_rng(0).uniform(-1, 1, x.shape), x, disc, black, -black])


@pytest.mark.parametrize("size", [32, 40, 64, 128, 256])
def test_ssim_equals_scikit_image(size):
    images = flat_and_busy(size)
    expected = [[scikit_image_ssim(one, other) for other in images] for one in images]
    np.testing.assert_allclose(ssim(images[:, None], images), expected, atol=1e-9)
    in_float32 = ssim_all_pairs(images[..., None], images[..., None])
    np.testing.assert_allclose(in_float32, expected, atol=1e-6)


def test_ssim_has_a_value_for_each_pair():
    images = flat_and_busy(32)
    assert ssim(images, images).shape == (5,)
    assert ssim(images[0], images[1]).shape == ()
    np.testing.assert_allclose(ssim(images, images), 1)


def test_all_pairs_are_met_also_of_many_images(good):
    found = ssim_all_pairs(good[:3], good[:20])
    assert found.shape == (3, 20)
    expected = [[ssim(one, other) for other in good[:20, ..., 0]] for one in good[:3, ..., 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_image_k_meets_image_k_of_every_batch():
    images = flat_and_busy(48)
    stack = images[..., None]
    scores = ssim_with_batches(stack, [stack, stack[::-1]])
    assert scores.shape == (2, 5)
    np.testing.assert_allclose(scores[0], 1, atol=1e-6)
    np.testing.assert_allclose(scores[1, 0], scikit_image_ssim(images[0], images[4]), atol=1e-5)
    np.testing.assert_array_equal(ssim_with_batches(stack[:2], [stack, stack[::-1]]), scores[:, :2])


def test_reference_batches_are_sampled_once_from_the_seed():
    training = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 1), dtype=np.uint8)
    settings = choose_settings("brain", "smoke", ssim_batches=5)
    first, second = (sample_reference_batches(training, settings) for _ in range(2))
    assert first.shape == (5, 16, 32, 32, 1)
    np.testing.assert_array_equal(first, second)
    other = sample_reference_batches(training, choose_settings("brain", "smoke", ssim_batches=5, seed=2))
    assert (first != other).any()
    assert len(np.unique(first.reshape(80, -1), axis=0)) == 80  # no image twice while there are enough
    assert sample_reference_batches(training[:20], settings).shape == first.shape


# ---- Sliced Wasserstein distance -------------------------------------------------------------------------------


QUICK = {"projections": 64}


def swd(first, second, **options):
    return sliced_wasserstein_distance(first, second, **QUICK, **options)["mean"]


def test_a_set_is_at_distance_0_from_itself(good):
    assert set(sliced_wasserstein_distance(good, good.copy(), **QUICK).values()) == {0}


def test_order_hardly_changes_the_distance(good, held_out):
    assert swd(good, good[::-1]) < 0.6 * swd(good, held_out)  # what is left is where the patches were sampled


def test_the_distance_of_wrong_images_is_far_above_that_between_real_sets(good, held_out, noise):
    real = swd(good, held_out)
    half_collapsed = np.concatenate([good[:30], good[:1].repeat(30, axis=0)])
    collapsed = good[:1].repeat(60, axis=0)
    for wrong in (half_collapsed, collapsed, blurred(good), stamped(good), noise):
        assert swd(wrong, held_out) > 1.5 * real


def test_each_level_sees_its_own_scale(good, held_out):
    real = sliced_wasserstein_distance(good, held_out, **QUICK)
    fine = sliced_wasserstein_distance(chessboard(good), held_out, **QUICK)
    assert fine[32] > 3 * real[32]
    assert fine[16] < 1.5 * real[16]
    coarse = good.copy()
    coarse[:, :16] = np.roll(good[:, :16], 1, axis=0)  # the upper half of one image on the lower half of another
    coarse = sliced_wasserstein_distance(coarse, held_out, **QUICK)
    assert coarse[16] > 1.2 * real[16]


def test_the_distance_is_symmetric_even_between_sets_of_different_size(good, training):
    pairs = (good, training), (training, good)
    first, second = (sliced_wasserstein_distance(*pair, **QUICK) for pair in pairs)
    assert first == pytest.approx(second)


def test_overall_contrast_and_brightness_do_not_count(good):
    assert swd(good, 0.5 * good) < 1e-2
    assert sliced_wasserstein_distance(good, 0.5 * good - 0.3, **QUICK)[32] < 1e-2


def test_the_seed_decides(good, held_out):
    assert swd(good, held_out) == swd(good, held_out)
    assert swd(good, held_out) != swd(good, held_out, seed=2)
    assert swd(good, held_out) == pytest.approx(swd(good, held_out, seed=2), rel=0.15)


def test_the_distance_equals_scipy_on_all_patches(good, held_out):
    """24 pixels are a single level; every patch of it, instead of those sampled, gives nearly the same."""
    first, second = (images[:, :24, :24] for images in (good, held_out))
    corners = np.stack(np.indices((18, 18)).reshape(2, -1))[:, None].repeat(60, axis=1)
    sets = [patches(images[..., 0], corners) for images in (first, second)]
    directions = np.random.default_rng(0).standard_normal((30, 49))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = 1000 * np.mean([wasserstein_distance(*(s @ direction for s in sets)) for direction in directions])
    distances = sliced_wasserstein_distance(first, second, projections=512)
    assert list(distances) == [24, "mean"]
    assert distances["mean"] == pytest.approx(expected, rel=0.1)


def test_sets_of_different_image_sizes_are_refused(good):
    with pytest.raises(ValueError, match="32 and 16 pixels"):
        sliced_wasserstein_distance(good, good[:, ::2, ::2])


def test_patches_are_cut_where_the_corners_say():
    level = np.random.default_rng(0).standard_normal((2, 16, 16))
    corners = np.array([[[0, 9], [4, 2]], [[0, 9], [1, 7]]])  # rows, columns
    cut = [level[0, :7, :7], level[0, 9:, 9:], level[1, 4:11, 1:8], level[1, 2:9, 7:14]]
    expected = np.stack(cut).reshape(4, 49)
    np.testing.assert_allclose(patches(level, corners), (expected - expected.mean()) / expected.std())


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        (32, [32, 16]),
        (40, [40, 20]),
        (64, [64, 32, 16]),
        (72, [72, 36, 18]),
        (128, [128, 64, 32, 16]),
        (200, [200, 100, 50, 25]),
        (256, [256, 128, 64, 32, 16]),
    ],
)
def test_levels_of_every_image_size(size, levels):
    images = make_images(3, seed=0, size=size)
    assert list(sliced_wasserstein_distance(images, images[::-1], projections=8)) == [*levels, "mean"]


def test_the_pyramid_adds_up_to_the_image():
    image = make_images(4, seed=0, size=64)[..., 0]
    *bands, rest = laplacian_pyramid(image)
    weights = np.array([1, 4, 6, 4, 1]) / 16
    for band in reversed(bands):
        enlarged = np.zeros_like(band)
        enlarged[:, ::2, ::2] = 4 * rest
        around = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(around, (5, 5), axis=(1, 2))
        rest = band + np.einsum("nijab,a,b->nij", windows, weights, weights)
    np.testing.assert_allclose(rest, image, atol=1e-5)


def test_a_chessboard_stays_in_the_finest_level():
    finest, *coarser = laplacian_pyramid(chessboard(np.zeros((1, 64, 64, 1)))[..., 0])
    np.testing.assert_allclose(np.abs(finest), 0.1)
    assert all(np.abs(level).max() < 1e-9 for level in coarser)


def test_the_fine_levels_of_a_flat_image_are_empty():
    *bands, rest = laplacian_pyramid(np.full((1, 64, 64), 0.7, np.float32))
    assert all(np.abs(band).max() < 1e-6 for band in bands)
    np.testing.assert_allclose(rest, 0.7, rtol=1e-5)
    black = np.full((5, 64, 64, 1), -1, np.float32)
    assert np.isfinite(swd(black, make_images(5, seed=0, size=64)))


# ---- Distance to other images ----------------------------------------------------------------------------------


def test_distances_between_flat_images_are_their_differences():
    flat = np.array([-0.5, 0.5, 0.5])[:, None, None, None] * np.ones((3, 8, 8, 1))
    np.testing.assert_allclose(distance_to_others(flat), [1, 0.5, 0.5])


def test_distances_of_known_sets(good, held_out):
    real = distance_to_others(held_out).mean()
    assert distance_to_others(good).mean() == pytest.approx(real, rel=0.05)
    np.testing.assert_allclose(distance_to_others(0.5 * good), 0.5 * distance_to_others(good), rtol=1e-5)
    assert (distance_to_others(good[:1].repeat(60, axis=0)) == 0).all()
    half = np.concatenate([good[:30], good[30:31].repeat(30, axis=0)])
    lacking = 30 * 29 / (60 * 59)  # the pairs of the copies
    assert distance_to_others(half).mean() == pytest.approx((1 - lacking) * real, rel=0.08)


def test_one_image_has_no_distance_to_others(good):
    np.testing.assert_array_equal(distance_to_others(good[:1]), [np.nan])


# ---- Spectrum --------------------------------------------------------------------------------------------------


def test_a_wave_stands_at_its_frequency():
    wave = 0.5 * np.sin(2 * np.pi * 5 * np.arange(32) / 32)
    frequencies, (power,) = radial_spectra(wave[None, None, :, None].repeat(32, axis=1))
    assert frequencies[power.argmax()] == 5 / 32
    assert power.sum() == pytest.approx(power.max())
    assert frequencies[[0, 16]].tolist() == [0, 0.5]


def test_high_frequencies_begin_at_half_of_the_limit():
    rows, columns = 2 * np.pi * np.indices((32, 32)) / 32
    low, high, corner = (np.sin(turns)[None, ..., None] for turns in (8 * rows, 9 * columns, 12 * rows + 12 * columns))
    assert high_frequency_power(low) == pytest.approx(0, abs=1e-9)
    for wave in (high, corner):
        assert high_frequency_power(wave) == pytest.approx(radial_spectra(wave)[1].sum())


def test_the_power_of_noise_is_its_variance_at_every_frequency():
    noise = np.random.default_rng(0).normal(0, 0.1, (400, 16, 16, 1))
    np.testing.assert_allclose(radial_spectra(noise)[1].mean(axis=0), 0.01, rtol=0.2)


def test_high_frequencies_of_known_sets(good, held_out, noise):
    real = high_frequency_power(held_out).mean()
    assert high_frequency_power(good).shape == (60,)
    assert high_frequency_power(good).mean() == pytest.approx(real, rel=0.1)
    np.testing.assert_allclose(high_frequency_power(0.5 * good), 0.25 * high_frequency_power(good), rtol=1e-5)
    assert high_frequency_power(blurred(good)).mean() < 0.3 * real
    for wrong in (stamped(good), chessboard(good), noise):
        assert high_frequency_power(wrong).mean() > 2 * real


# ---- Nearest training image ------------------------------------------------------------------------------------


def test_nearest_image_is_found():
    others = np.random.default_rng(0).uniform(0, 255, (20, 8, 8))
    distances, numbers = distance_to_nearest(others[[7, 3]] + 2, others)
    assert numbers.tolist() == [7, 3]
    np.testing.assert_allclose(distances, 2, atol=1e-2)


def test_the_training_images_passed_off_as_generated_are_found(training):
    chosen = np.random.default_rng(0).permutation(150)[:40]
    distances, numbers = distance_to_training(training[chosen], training)
    np.testing.assert_allclose(distances, 0, atol=1e-6)
    assert numbers.tolist() == chosen.tolist()
    given = distance_to_training(training[chosen], training, small_copies(training))
    np.testing.assert_array_equal(given[1], numbers)


def test_bytes_are_compared_like_floats(good, training):
    as_bytes = [np.round((images + 1) * 127.5).astype(np.uint8) for images in (good, training)]
    expected, numbers = distance_to_training(good, training)
    for first, second in ((good, as_bytes[1]), (as_bytes[0], training), as_bytes):
        distances, found = distance_to_training(first, second)
        np.testing.assert_allclose(distances, expected, atol=0.01)
        assert (found == numbers).mean() > 0.9


def test_large_images_are_compared_at_full_size():
    training, images = (make_images(number, seed, size=128) for number, seed in ((40, 0), (10, 1)))
    images[0] = training[7]
    squares = ((images[:, None] - training) ** 2).mean(axis=(2, 3, 4))
    distances, numbers = distance_to_training(images, training)
    assert small_copies(training).shape == (40, 64, 64)
    np.testing.assert_allclose(distances, np.sqrt(squares.min(axis=1)), rtol=0.01)
    assert numbers.tolist() == squares.argmin(axis=1).tolist()
    noisy = images + np.random.default_rng(2).normal(0, 0.3, images.shape)  # hardly to be seen in the small copies
    assert (distance_to_training(np.clip(noisy, -1, 1), training)[0] > distances + 0.01).all()


@pytest.mark.parametrize(("size", "side"), [(32, 32), (72, 36), (200, 50), (256, 64), (264, 33)])
def test_small_copies_keep_the_mean(size, side):
    images = make_images(2, seed=0, size=size)
    copies = small_copies(images)
    assert (copies.shape, copies.dtype) == ((2, side, side), np.float32)
    np.testing.assert_allclose(copies.mean(axis=(1, 2)), images.mean(axis=(1, 2, 3)), atol=1e-5)
