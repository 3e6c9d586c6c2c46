"""Features of small networks, the distances between sets of them, and a test whether two sets can be told apart."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from conftest import make_images, stamped
from gan_utils import features
from gan_utils.features import (
    build_feature_network,
    density_and_coverage,
    extract,
    frechet_distance,
    kept_feature_network,
    kernel_distance,
    train_feature_network,
    turned,
    two_sample_test,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- distances between sets of features --------------------------------------------------------------------


def test_frechet_distance_of_known_normal_distributions(rng):
    """Between N(m, s^2) and N(n, t^2) it is |m - n|^2 + (s - t)^2 for each feature."""
    first = rng.normal([0, 0, 0], [1, 2, 3], (100_000, 3))
    second = rng.normal([1, 0, -2], [1, 4, 3], (100_000, 3))
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 4, rel=0.02)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_counts_how_features_go_together(rng):
    features = rng.normal(size=(20_000, 2))
    together = np.stack([features[:, 0], features[:, 0]], axis=1)
    # The covariances are the identity and a matrix of ones, whose root has the trace sqrt(2).
    assert frechet_distance(features, together) == pytest.approx(2 + 2 - 2 * np.sqrt(2), rel=0.05)


def test_frechet_distance_of_fewer_images_than_features_is_a_number(rng):
    features = rng.normal(size=(2, 10, 64))
    assert 0 < frechet_distance(*features) < np.inf
    assert frechet_distance(features[0], features[0]) == pytest.approx(0, abs=1e-3)


def test_kernel_distance_of_equal_sets_is_zero_in_the_mean_however_few(rng):
    few = [kernel_distance(*rng.normal(size=(2, 10, 8))) for _ in range(400)]
    assert abs(np.mean(few)) < 3 * np.std(few) / np.sqrt(len(few))
    assert min(few) < 0 < max(few)


def test_kernel_distance_by_its_definition(rng):
    first, second = rng.normal(size=(6, 3)), rng.normal(1, 2, size=(6, 3))
    kernel = lambda one, other: (np.dot(one, other) / 3 + 1) ** 3  # noqa: E731
    same = [kernel(a, b) for each in (first, second) for i, a in enumerate(each) for j, b in enumerate(each) if i != j]
    other = [kernel(a, b) for a in first for b in second]
    assert kernel_distance(first, second) == pytest.approx(2 * np.mean(same) - 2 * np.mean(other))


def test_density_and_coverage_of_equal_sets(rng):
    generated, real = rng.normal(size=(2, 500, 4))
    density, coverage = density_and_coverage(generated, real)
    assert density.shape == coverage.shape == (500,)
    assert density.mean() == pytest.approx(1, abs=0.1)
    assert coverage.mean() == pytest.approx(1 - 0.5**5, abs=0.03)  # arXiv 2002.09797: 1 - 1 / 2^k for equally many


def test_density_and_coverage_name_the_fault(rng):
    """One mode of two: as dense as real images, half of them covered. Far away: neither."""
    real = np.concatenate([rng.normal(0, 1, (250, 4)), rng.normal(20, 1, (250, 4))])
    one_mode = rng.normal(0, 1, (500, 4))
    density, coverage = (values.mean() for values in density_and_coverage(one_mode, real))
    assert density > 0.9
    assert coverage == pytest.approx(0.5, abs=0.05)
    density, coverage = (values.mean() for values in density_and_coverage(rng.normal(10, 1, (500, 4)), real))
    assert density == coverage == 0


# ---- networks ----------------------------------------------------------------------------------------------


def test_turns_are_eight_different_views():
    image = np.arange(9).reshape(3, 3)
    views = {turned(image, turns).tobytes() for turns in range(8)}
    assert len(views) == 8
    assert (turned(image, 0) == image).all()
    assert (turned(image, 4) == image[:, ::-1]).all()


@pytest.fixture(scope="module")
def split():
    """What is asked of a `Split`: sixty images, brighter towards one corner, in scans of ten slices."""
    brighter = np.linspace(-0.4, 0.4, 32) * np.linspace(1, 0, 32)[:, None]
    images = np.clip(0.5 * make_images(60, seed=7) + brighter[..., None], -1, 1)
    levels = np.tile(np.linspace(0, 1, 10, dtype=np.float32), 6)[:, None]
    return SimpleNamespace(images=np.round((images + 1) * 127.5).astype(np.uint8), levels=levels)


def test_random_features_follow_the_seed_alone(good):
    keras.utils.set_random_seed(1)
    first = extract(build_feature_network(32, 5), good)
    keras.utils.set_random_seed(2)
    assert (extract(build_feature_network(32, 5), good) == first).all()
    assert (extract(build_feature_network(32, 6), good) != first).any()
    assert first.shape == (len(good), 64)
    as_bytes = np.round((good + 1) * 127.5).astype(np.uint8)
    assert extract(build_feature_network(32, 5), as_bytes) == pytest.approx(first, abs=0.02)


def test_trained_features_follow_the_seed_and_leave_other_random_numbers_alone(split):
    keras.utils.set_random_seed(1)
    first = train_feature_network(split, seed=3, steps=5)
    sampled = keras.random.normal((3,))
    keras.utils.set_random_seed(1)
    second = train_feature_network(split, seed=3, steps=5)
    assert (keras.random.normal((3,)) == sampled).numpy().all()
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert (one == other).all()
    other = train_feature_network(split, seed=4, steps=5)
    assert (other.get_weights()[0] != first.get_weights()[0]).any()


def test_training_teaches_the_turns(split):
    """How an image is turned can be read off trained features better than off random ones."""
    network = train_feature_network(split, seed=1, steps=150)
    images = split.images[..., 0]

    def accuracy(network):
        views = [np.stack([turned(image, turns) for image in images])[..., None] for turns in range(8)]
        known = [extract(network, view) for view in views]
        asked = [extract(network, np.roll(view, (1, -1), axis=(1, 2))) for view in views]
        centres = np.stack([features.mean(axis=0) for features in known])
        guesses = [np.linalg.norm(features[:, None] - centres, axis=2).argmin(axis=1) for features in asked]
        return np.mean([guess == turns for turns, guess in enumerate(guesses)])

    assert accuracy(network) > accuracy(build_feature_network(32, 1)) + 0.1


def test_images_above_64_pixels_are_averaged_down():
    images = make_images(4, seed=0, size=128)
    small = images.reshape(4, 64, 2, 64, 2, 1).mean(axis=(2, 4))
    network = build_feature_network(64, 1)
    assert extract(network, images) == pytest.approx(extract(network, small), abs=1e-4)


# ---- the two-sample test -----------------------------------------------------------------------------------


def test_equal_sets_cannot_be_told_apart():
    sets = [make_images(120, seed=seed) for seed in range(4)]
    right = two_sample_test(*sets)
    assert right.shape == (240,)
    assert set(right) <= {0.0, 1.0}
    assert abs(right.mean() - 0.5) < 0.13  # four standard deviations of a coin


def test_a_faint_pattern_is_found_in_new_images():
    generated, real, new_generated, new_real = (make_images(120, seed=seed) for seed in range(4))
    right = two_sample_test(stamped(generated), real, stamped(new_generated), new_real)
    assert right.mean() > 0.75
    assert two_sample_test(stamped(generated), real, new_generated, new_real)[:120].mean() < 0.5  # nothing to find


def test_images_learned_by_heart_do_not_count():
    """Noise has nothing to learn, and sets so small could be learned by heart."""
    rng = np.random.default_rng(1)
    sets = rng.uniform(-1, 1, (4, 20, 32, 32, 1)).astype(np.float32)
    right = two_sample_test(sets[0], sets[1], np.repeat(sets[2], 5, axis=0), np.repeat(sets[3], 5, axis=0))
    assert right.mean() < 0.8


def test_a_run_keeps_its_feature_network(split, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "train_feature_network", lambda split, seed: build_feature_network(32, seed))
    first = kept_feature_network(tmp_path, split, 3)
    monkeypatch.delattr(features, "train_feature_network")
    for one, other in zip(kept_feature_network(tmp_path, split, 4).get_weights(), first.get_weights(), strict=True):
        assert (one == other).all()
