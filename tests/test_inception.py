import socket

import keras
import numpy as np
import pytest

from gan_utils import inception
from gan_utils.inception import (
    NETWORK_TIMEOUT,
    WeightsNotAvailable,
    inception_features,
    judge_with_inception,
    kernel_inception_distance,
)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (60, 32, 32, 1)).astype(np.float32)


def naive_discrepancy(first, second):
    number, features = first.shape

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / features + 1) ** 3

    within = [
        kernel(vectors[i], vectors[j])
        for vectors in (first, second)
        for i in range(number)
        for j in range(number)
        if i != j
    ]
    between = [kernel(x, y) for x in first for y in second]
    return sum(within) / (number * (number - 1)) - 2 * sum(between) / number**2


def test_kid_equals_a_plain_loop():
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((12, 5)), draw.normal(0.5, 2, (12, 5))
    mean, spread = kernel_inception_distance(first, second, subsets=3, subset_size=12)
    assert mean == pytest.approx(1000 * naive_discrepancy(first, second))
    assert spread == pytest.approx(0, abs=1e-9)  # a subset that is the whole set leaves nothing to draw


def test_kid_of_one_kind_is_0_and_of_another_far_above():
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((2, 300, 20))
    mean, spread = kernel_inception_distance(first, second)
    assert abs(mean) < 2 * spread
    shifted, shifted_spread = kernel_inception_distance(first, second + 0.5)
    assert shifted > 10 * shifted_spread
    assert kernel_inception_distance(first, second) == (mean, spread)
    assert kernel_inception_distance(first, second, seed=2) != (mean, spread)


@pytest.mark.parametrize("subset_size", [1, 31])
def test_kid_subsets_that_cannot_be_drawn_are_refused(subset_size):
    features = np.zeros((30, 4))
    with pytest.raises(ValueError, match="choose 2 to 30"):
        kernel_inception_distance(features, features, subset_size=subset_size)


def pretend_to_have_weights(monkeypatch):
    """What the network "sees" are 16 numbers: the mean brightness of each field of 4x4."""

    def network(batch, training):
        return keras.ops.reshape(keras.ops.average_pool(batch[..., :1], 74, 74), (-1, 16))

    monkeypatch.setattr(keras.applications, "InceptionV3", lambda **options: network)


def test_kid_of_generated_images_stands_beside_that_of_real_ones(monkeypatch):
    pretend_to_have_weights(monkeypatch)
    draw = np.random.default_rng(0)
    grey = draw.uniform(-0.9, 0.9, (3, 60, 1, 1, 1)) + np.zeros((32, 32, 1))  # flat images, three sets of one kind
    figures = judge_with_inception(grey[0] * 0.1, grey[1][:40], grey[2])
    assert list(figures) == ["kid", "kid_spread", "kid_real", "kid_real_spread"]
    assert abs(figures["kid_real"]) < 2 * figures["kid_real_spread"]
    assert figures["kid"] > 3 * figures["kid_real"]
    assert judge_with_inception(grey[0] * 0.1, grey[1][:40], grey[2]) == figures


def test_no_more_images_are_shown_to_the_network_than_needed(monkeypatch):
    shown = []
    monkeypatch.setattr(inception, "inception_features", lambda images: shown.append(len(images)) or images[:, 0, :, 0])
    images = np.random.default_rng(0).uniform(-1, 1, (300, 32, 32, 1))
    judge_with_inception(images, images, images)
    judge_with_inception(images, images[:7], images)
    assert shown == [256] * 3 + [7] * 3


def test_inception_sees_grey_pictures_of_its_own_size(images, monkeypatch):
    seen = []

    def network(batch, training):
        seen.append(batch.shape)
        assert not training
        return keras.ops.mean(batch, axis=(1, 2))

    monkeypatch.setattr(keras.applications, "InceptionV3", lambda **options: network)
    features = inception_features(images, batch_size=32)
    assert seen == [(32, 299, 299, 3), (28, 299, 299, 3)]
    np.testing.assert_allclose(features, images.mean(axis=(1, 2)).repeat(3, axis=1), atol=0.02)


def test_no_network_is_said_in_one_line_and_at_once(images, monkeypatch, capsys):
    timeouts = []

    def fail(**options):
        print("Downloading data from https://storage.googleapis.com/weights.h5")
        timeouts.append(socket.getdefaulttimeout())
        raise Exception("URL fetch failure on https://storage.googleapis.com/weights.h5:\nName not known")

    monkeypatch.setattr(keras.applications, "InceptionV3", fail)
    socket.setdefaulttimeout(None)
    with pytest.raises(
        WeightsNotAvailable, match=r"weights of InceptionV3.*URL fetch failure.*Name not known"
    ) as error:
        inception_features(images)
    assert "\n" not in str(error.value)
    assert not capsys.readouterr().out
    assert timeouts == [NETWORK_TIMEOUT]
    assert socket.getdefaulttimeout() is None
