import numpy as np
import pytest

from gan_utils.networks import build_discriminator, build_generator, build_networks
from gan_utils.settings import PROFILES, choose_settings


def test_published_parameter_counts():
    generator, discriminator = build_networks(choose_settings("brain", "full"))
    assert generator.count_params() == 27_632_960
    assert discriminator.count_params() == 631_809


@pytest.mark.parametrize("profile", PROFILES["brain"])
def test_shapes_follow_the_settings(profile):
    settings = choose_settings("brain", profile)
    generator, discriminator = build_networks(settings)
    assert generator.input_shape == (None, 100)
    assert generator.output_shape == (None, settings.image_size, settings.image_size, 1)
    assert discriminator.input_shape == generator.output_shape
    assert discriminator.output_shape == (None, 1)


def test_generator_draws_in_the_range_of_tanh_and_differently_for_each_latent():
    latents = np.random.default_rng(0).normal(0, 100, (4, 100)).astype(np.float32)
    images = np.array(build_generator(32, 4)(latents, training=True))
    assert images.min() >= -1
    assert images.max() <= 1
    assert np.abs(images[0] - images[1]).max() > 0.01


def test_discriminator_has_dropout_in_training_only():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    discriminator = build_discriminator(32, 4)
    asked = [np.array(discriminator(images, training=training)) for training in (False, False, True, True)]
    np.testing.assert_array_equal(asked[0], asked[1])
    assert (asked[2] != asked[3]).any()
