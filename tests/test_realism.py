import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from gan_utils import realism
from gan_utils.alarms import MEMORISING, alarms
from gan_utils.realism import (
    Judge,
    distance_to_training,
    diversity_ratio,
    high_frequency_ratio,
    judge,
    laplacian_pyramid,
    nearest_ratio,
    patches,
    projected_distance,
    radial_spectrum,
    random_directions,
    sliced_wasserstein_distance,
    small_copies,
)


def make_images(number, seed, size=32):
    """Smooth random blobs with a little fine texture, in a set with no two alike."""
    noise = np.random.default_rng(seed).standard_normal((number, size, size, 1))
    blobs = gaussian_filter(noise, (0, 4, 4, 0), mode="wrap")
    texture = gaussian_filter(noise, (0, 0.7, 0.7, 0), mode="wrap")
    return np.tanh(8 * blobs + 0.2 * texture).astype(np.float32)


def blurred(images):
    return gaussian_filter(images, (0, 1, 1, 0))


def stamped(images):
    """The lattice of a transposed convolution of stride 2: every second pixel of every second row is brighter."""
    images = 0.8 * images
    images[:, ::2, ::2] += 0.2
    return images


def chessboard(images):
    rows, columns = np.indices(images.shape[1:3])
    return 0.9 * images + 0.1 * np.where((rows + columns) % 2, 1, -1)[..., None]


@pytest.fixture(scope="module")
def training():
    return make_images(150, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return make_images(60, seed=1)


@pytest.fixture(scope="module")
def good():
    """What a perfect generator would make: other images of the same kind."""
    return make_images(60, seed=2)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).uniform(-1, 1, (60, 32, 32, 1)).astype(np.float32)


# --- sliced Wasserstein distance ---------------------------------------------------------------------------------


QUICK = {"projections": 64}


def swd(first, second, **options):
    return sliced_wasserstein_distance(first, second, **QUICK, **options)["mean"]


def test_a_set_is_at_distance_0_from_itself(good):
    assert set(sliced_wasserstein_distance(good, good.copy(), **QUICK).values()) == {0}


def test_order_hardly_changes_the_distance(good, held_out):
    assert swd(good, good[::-1]) < 0.6 * swd(good, held_out)  # what is left is where the patches were drawn


def test_the_distance_of_wrong_images_is_far_above_that_between_real_sets(good, held_out, noise):
    real = swd(good, held_out)
    half_collapsed = np.concatenate([good[:30], good[:1].repeat(30, axis=0)])
    collapsed = good[:1].repeat(60, axis=0)
    assert swd(half_collapsed, held_out) > 1.5 * real
    for wrong in (collapsed, blurred(good), stamped(good), noise):
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
    first, second = (
        sliced_wasserstein_distance(good, training, **QUICK),
        sliced_wasserstein_distance(training, good, **QUICK),
    )
    assert first == pytest.approx(second)


def test_overall_contrast_and_brightness_do_not_count(good):
    assert swd(good, 0.5 * good) < 1e-2
    assert sliced_wasserstein_distance(good, 0.5 * good - 0.3, **QUICK)[32] < 1e-2


def test_the_seed_decides(good, held_out):
    assert swd(good, held_out) == swd(good, held_out)
    assert swd(good, held_out) != swd(good, held_out, seed=2)
    assert swd(good, held_out) == pytest.approx(swd(good, held_out, seed=2), rel=0.15)


def test_projected_distance_equals_scipy():
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((500, 49)), draw.uniform(-1, 2, (500, 49))
    directions = random_directions(40, draw)
    expected = [wasserstein_distance(first @ direction, second @ direction) for direction in directions]
    assert projected_distance(first, second, directions) == pytest.approx(np.mean(expected))
    shift = draw.standard_normal(49)
    assert projected_distance(first, first + shift, directions) == pytest.approx(np.abs(directions @ shift).mean())


def test_the_whole_distance_equals_scipy_on_all_patches(good, held_out):
    """24 pixels are a single level; every patch of it, instead of those drawn, gives nearly the same."""
    first, second = (images[:, :24, :24] for images in (good, held_out))
    corners = np.stack(np.indices((18, 18)).reshape(2, -1))[:, None].repeat(60, axis=1)
    sets = [patches(images[..., 0], corners) for images in (first, second)]
    directions = random_directions(30, np.random.default_rng(0))
    expected = 1000 * np.mean([wasserstein_distance(*(s @ direction for s in sets)) for direction in directions])
    distances = sliced_wasserstein_distance(first, second)
    assert list(distances) == [24, "mean"]
    assert distances["mean"] == pytest.approx(expected, rel=0.1)


def test_directions_have_length_1_and_no_favourite():
    directions = random_directions(5000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(directions.T @ directions / 5000, np.eye(49) / 49, atol=2e-3)


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
    assert list(sliced_wasserstein_distance(images, images[::-1], patches_per_image=8, projections=8)) == [
        *levels,
        "mean",
    ]


def test_the_pyramid_adds_up_to_the_image(good):
    *bands, rest = laplacian_pyramid(make_images(4, seed=0, size=64)[..., 0])
    for band in reversed(bands):
        enlarged = np.zeros_like(band)
        enlarged[:, ::2, ::2] = 4 * rest
        rest = band + realism.low_pass(enlarged)
    np.testing.assert_allclose(rest, make_images(4, seed=0, size=64)[..., 0], atol=1e-5)


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


# --- diversity ---------------------------------------------------------------------------------------------------


def test_diversity_of_known_sets(good, held_out):
    assert diversity_ratio(good, good) == (1, pytest.approx(0, abs=0.2))
    assert diversity_ratio(good, held_out).value == pytest.approx(1, abs=0.05)
    assert diversity_ratio(good[:1].repeat(60, axis=0), held_out) == (0, 0)
    assert diversity_ratio(0.5 * good, good).value == pytest.approx(0.5)
    assert diversity_ratio(good[::-1], held_out) == pytest.approx(diversity_ratio(good, held_out))


def test_diversity_of_two_flat_images_is_their_difference():
    flat = np.array([-0.5, 0.5, 0.5])[:, None, None, None] * np.ones((3, 8, 8, 1))
    np.testing.assert_allclose(realism.distance_to_others(flat), [1, 0.5, 0.5])


def test_a_half_collapsed_set_lacks_the_pairs_of_its_copies(good):
    half = np.concatenate([good[:30], good[30:31].repeat(30, axis=0)])
    lacking = 30 * 29 / (60 * 59)
    assert diversity_ratio(half, good).value == pytest.approx(1 - lacking, abs=0.06)


def test_one_image_has_no_diversity(good):
    with pytest.raises(ValueError, match="two or more"):
        diversity_ratio(good[:1], good)


# --- spectrum ----------------------------------------------------------------------------------------------------


def test_a_wave_stands_at_its_frequency():
    wave = 0.5 * np.sin(2 * np.pi * 5 * np.arange(32) / 32)
    frequencies, power = radial_spectrum(wave[None, None, :, None].repeat(32, axis=1))
    assert frequencies[power.argmax()] == 5 / 32
    assert power.sum() == pytest.approx(power.max())
    assert frequencies[[0, 16]].tolist() == [0, 0.5]


def test_high_frequencies_begin_at_half_of_the_limit():
    rows, columns = 2 * np.pi * np.indices((32, 32)) / 32
    low, high, corner = (np.sin(turns)[None, ..., None] for turns in (8 * rows, 9 * columns, 12 * rows + 12 * columns))
    assert realism.high_frequency_power(low) == pytest.approx(0, abs=1e-9)
    for wave in (high, corner):
        assert realism.high_frequency_power(wave) == pytest.approx(radial_spectrum(wave)[1].sum())


def test_the_power_of_noise_is_its_variance_at_every_frequency():
    noise = np.random.default_rng(0).normal(0, 0.1, (400, 16, 16, 1))
    np.testing.assert_allclose(radial_spectrum(noise)[1], 0.01, rtol=0.2)


def test_high_frequencies_of_known_sets(good, held_out, noise):
    assert high_frequency_ratio(good, good).value == 1
    assert high_frequency_ratio(good, held_out).value == pytest.approx(1, abs=0.1)
    assert high_frequency_ratio(good[::-1], held_out) == pytest.approx(high_frequency_ratio(good, held_out))
    assert high_frequency_ratio(0.5 * good, good).value == pytest.approx(0.25)
    assert high_frequency_ratio(blurred(good), good).value < 0.3
    for wrong in (stamped(good), chessboard(good), noise):
        assert high_frequency_ratio(wrong, good).value > 2


# --- nearest training image --------------------------------------------------------------------------------------


def test_nearness_of_known_sets(good, held_out, training, noise):
    assert nearest_ratio(held_out, held_out, training)[0].value == 1
    assert nearest_ratio(good, held_out, training)[0].value == pytest.approx(1, abs=0.1)
    assert nearest_ratio(good[::-1], held_out, training)[0] == pytest.approx(nearest_ratio(good, held_out, training)[0])
    assert nearest_ratio(blurred(training), held_out, training)[0].value < 0.5
    assert nearest_ratio(noise, held_out, training)[0].value > 1.1


def test_the_training_images_passed_off_as_generated_are_found(held_out, training):
    numbers = np.random.default_rng(0).permutation(150)[:40]
    found, nearest = nearest_ratio(training[numbers], held_out, training)
    assert found == pytest.approx((0, 0), abs=0.01)
    assert nearest.tolist() == numbers.tolist()


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
    assert copies.shape == (2, side, side)
    np.testing.assert_allclose(copies.mean(axis=(1, 2)), images.mean(axis=(1, 2, 3)), atol=1e-5)


def test_nearest_images_are_found_in_every_block(good, training, monkeypatch):
    expected = distance_to_training(good, training)
    monkeypatch.setattr(realism, "IMAGES_AT_ONCE", 40)
    distances, numbers = distance_to_training(good, training)
    np.testing.assert_allclose(distances, expected[0], rtol=1e-4)
    np.testing.assert_array_equal(numbers, expected[1])
    assert len(set(numbers // 40)) == 4


# --- all together ------------------------------------------------------------------------------------------------


def judge_quickly(*sets, **options):
    return judge(*sets, projections=32, **options)


def test_a_perfect_generator_raises_no_alarm(good, held_out, training):
    figures = judge_quickly(good, held_out, training)
    assert figures["swd"] == pytest.approx(figures["swd_real"], rel=0.3)
    for name in ("diversity_ratio", "high_frequency_ratio", "nearest_ratio"):
        assert figures[name] == pytest.approx(1, abs=0.1)
        assert figures[f"{name}_real"] == pytest.approx(1, abs=0.1)
        assert 0 < figures[f"{name}_spread"] < 0.5
        assert 0 < figures[f"{name}_real_spread"] < 0.5
    assert figures["nearest_ratio_real"] == 1
    assert len(figures) == 14
    assert alarms(figures) == []
    assert judge_quickly(good, held_out, training) == figures
    assert judge_quickly(good, held_out, training, seed=2) != figures


def test_judge_takes_bytes_and_sets_of_any_size(good, held_out, training):
    as_bytes = [np.round((images + 1) * 127.5).astype(np.uint8) for images in (good, held_out, training)]
    figures, expected = judge_quickly(*as_bytes), judge_quickly(good, held_out, training)
    assert figures == pytest.approx(expected, rel=0.02, abs=0.02)
    few = judge_quickly(good, held_out[:5], training)
    assert few["swd_real"] > 2 * expected["swd_real"]  # few images, far apart: hence always beside the real figure
    assert few["nearest_ratio"] == pytest.approx(expected["nearest_ratio"], abs=0.1)


def test_real_images_are_measured_once_for_many_sets(good, held_out, training, noise, monkeypatch):
    judged = Judge(held_out, training, len(good), projections=32)
    expected = [judge_quickly(images, held_out, training) for images in (good, noise)]
    monkeypatch.setattr(judged, "real_figures", judged.real_figures.copy())  # used, not worked out anew
    judged.real_figures["swd_real"] = 123
    figures = [judged(images) for images in (good, noise)]
    assert figures == [{**was, "swd_real": 123} for was in expected]


@pytest.mark.parametrize(
    ("spoil", "alarm"),
    [
        (lambda good, training: good[:1].repeat(60, axis=0), "Collapse"),
        (lambda good, training: stamped(good), "Lattice"),
        (lambda good, training: chessboard(good), "Lattice"),
        (lambda good, training: training[:60], "Memorising"),
        (lambda good, training: np.full_like(good, np.nan), "NaN"),
    ],
)
def test_every_failure_raises_its_own_alarm(spoil, alarm, good, held_out, training):
    warnings = alarms(judge_quickly(spoil(good, training), held_out, training))
    assert [warning.split()[0].rstrip(":") for warning in warnings] == [alarm]


def test_textures_say_at_which_scale_images_are_wrong(good, held_out, training):
    judged = Judge(held_out, training, number=60, projections=32)
    textures, chess = judged.textures(good), judged.textures(chessboard(good))
    assert list(textures) == list(judged.real_textures) == [32, 16, "mean"]
    assert judged(good)["swd"] == textures["mean"]
    assert judged(good)["swd_real"] == judged.real_textures["mean"]
    assert chess[32] > 3 * judged.real_textures[32]
    assert chess[16] < 1.5 * judged.real_textures[16]


def test_only_the_generated_images_change_their_figures(good, held_out, training):
    figures, stamps = (judge_quickly(images, held_out, training) for images in (good, stamped(good)))
    for name in ("swd", "high_frequency_ratio"):
        assert stamps[name] > 1.5 * stamps[f"{name}_real"]
    real = [name for name in figures if "_real" in name]
    assert [figures[name] for name in real] == [stamps[name] for name in real]


def test_blurred_copies_are_not_taken_for_memorised_ones(held_out, training):
    figures = judge_quickly(blurred(training[:60]), held_out, training)
    assert figures["nearest_ratio"] < MEMORISING
    assert alarms(figures) == []


def test_images_that_cannot_be_judged_are_refused(good):
    with pytest.raises(ValueError, match=r"expected -1\.\.1"):
        diversity_ratio(good * 127.5, good)
    with pytest.raises(ValueError, match=r"expected \(images, size, size, 1\)"):
        high_frequency_ratio(good[..., 0], good)
    with pytest.raises(ValueError, match="32 and 16 pixels"):
        sliced_wasserstein_distance(good, good[:, ::2, ::2])
