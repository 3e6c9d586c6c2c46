import keras
import numpy as np
import pytest

from gan_utils.networks import (
    build_brain_discriminator,
    build_brain_generator,
    build_knee_generator,
    build_networks,
    generate_images,
)
from gan_utils.settings import PROFILES, choose_settings

RUNS = [(experiment, profile) for experiment, profiles in PROFILES.items() for profile in profiles]


@pytest.mark.parametrize(("experiment", "counts"), [("brain", (27_632_960, 631_809)), ("knee", (314_145, 4_218_113))])
def test_published_parameter_counts(experiment, counts):
    networks = build_networks(choose_settings(experiment, "full"))
    assert tuple(network.count_params() for network in networks) == counts


@pytest.mark.parametrize(("experiment", "profile"), RUNS)
def test_shapes_follow_the_settings(experiment, profile):
    settings = choose_settings(experiment, profile)
    generator, discriminator = build_networks(settings)
    assert generator.input_shape == (None, settings.latent_dim)
    assert generator.output_shape == (None, settings.image_size, settings.image_size, 1)
    assert discriminator.input_shape == generator.output_shape
    assert discriminator.output_shape == (None, 1)


@pytest.mark.parametrize("build_generator", [build_brain_generator, build_knee_generator])
@pytest.mark.parametrize("generator_input_dim", [1, 2, 4, 8, 16])
def test_blocks_follow_from_where_the_generator_starts(build_generator, generator_input_dim):
    generator = build_generator(32, 4, 10, generator_input_dim)
    doublings = [layer for layer in generator.layers if getattr(layer, "strides", None) == (2, 2)]
    assert len(doublings) == np.log2(32 / generator_input_dim)
    assert generator.output_shape == (None, 32, 32, 1)


def test_published_blocks_of_the_knee_generator():
    """Five blocks from 4x4; the published code has four from 8x8."""
    for start, expected in ((4, [32, 32, 32, 32, 16]), (8, [32, 32, 32, 16])):
        generator = build_knee_generator(generator_input_dim=start)
        assert [layer.filters for layer in generator.layers if "conv2d_transpose" in layer.name] == expected


@pytest.mark.parametrize("build_generator", [build_brain_generator, build_knee_generator])
def test_start_that_does_not_reach_the_image_size_is_refused(build_generator):
    with pytest.raises(ValueError, match=r"generator_input_dim 5 .* image_size 96 .* these do: 3, 6, 12, 24, 48$"):
        build_generator(96, 4, 10, 5)


@pytest.mark.parametrize("build_generator", [build_brain_generator, build_knee_generator])
def test_images_are_in_the_range_of_a_picture_and_differ_for_each_latent(build_generator):
    latents = np.random.default_rng(0).normal(0, 100, (4, 100)).astype(np.float32)
    generator = build_generator(32, 4, 100, 4)
    if build_generator is build_knee_generator:
        assert np.abs(generator(latents)).max() > 1  # its own output is linear
    images = generate_images(generator, latents)
    assert images.dtype == np.float32
    assert images.min() >= -1
    assert images.max() <= 1
    assert np.abs(images[0] - images[1]).max() > 0.01


def test_latents_are_not_lost_on_the_way_through_the_knee_generator():
    """Keras' default weights leave a spread of 0.002 between images of different latents before training."""
    keras.utils.set_random_seed(1)
    latents = np.random.default_rng(0).standard_normal((16, 256), dtype=np.float32)
    assert generate_images(build_knee_generator(), latents).std(axis=0).mean() > 0.01


def test_discriminator_has_dropout_in_training_only():
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    discriminator = build_brain_discriminator(32, 4)
    asked = [np.array(discriminator(images, training=training)) for training in (False, False, True, True)]
    np.testing.assert_array_equal(asked[0], asked[1])
    assert (asked[2] != asked[3]).any()
