import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from gan_utils import PROJECT_FOLDER
from gan_utils.data import DATASETS
from gan_utils.fast import precision
from gan_utils.networks import (
    MinibatchStandardDeviation,
    build_brain_discriminator,
    build_brain_generator,
    build_dcgan_discriminator,
    build_dcgan_generator,
    build_knee_generator,
    build_pair,
    fixed_latents,
    generate_images,
    without_chessboard,
)
from gan_utils.settings import choose_settings

RUNS = [(experiment, profile) for experiment, dataset in DATASETS.items() for profile in dataset.profiles]


@pytest.mark.parametrize(("experiment", "counts"), [("brain", (27_632_960, 631_809)), ("knee", (314_145, 4_218_113))])
def test_published_parameter_counts(experiment, counts):
    networks = build_pair(choose_settings(experiment, "full"))
    assert tuple(network.count_params() for network in networks) == counts


@pytest.mark.parametrize(("experiment", "profile"), RUNS)
def test_shapes_follow_the_settings(experiment, profile):
    settings = choose_settings(experiment, profile)
    generator, discriminator = build_pair(settings)
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


@pytest.mark.parametrize(("experiment", "profile"), RUNS)
def test_improved_networks_follow_the_settings(experiment, profile):
    settings = choose_settings(experiment, profile, "improved")
    generator, discriminator = build_pair(settings)
    assert generator.output_shape == (None, settings.image_size, settings.image_size, 1)
    assert discriminator.input_shape == generator.output_shape
    assert discriminator.output_shape == (None, 1)


@pytest.mark.parametrize(
    ("build", "kernels"),
    [
        (build_dcgan_generator, {3: [1, 2, 4], 4: [4]}),
        (build_knee_generator, {3: [1, 2, 4], 4: [4]}),
        (build_brain_generator, {3: [1, 2, 4], 4: [4]}),
    ],
)
def test_kernels_of_4_tile_evenly_and_kernels_of_3_leave_a_lattice(build, kernels):
    """How many input pixels reach each pixel away from the border, by the last doubling of the generator."""
    for kernel_size, expected in kernels.items():
        layers = build(32, 2, 10, 4, kernel_size).layers
        doubling = [layer for layer in layers if isinstance(layer, keras.layers.Conv2DTranspose)][-1]
        config = {**doubling.get_config(), "kernel_initializer": "ones", "activation": None, "filters": 1}
        painted = keras.layers.Conv2DTranspose.from_config(config)(np.ones((1, 8, 8, 1), np.float32))
        assert np.unique(np.array(painted)[0, 2:-2, 2:-2]).tolist() == expected


def test_initial_weights_are_those_asked_for():
    keras.utils.set_random_seed(1)
    kernel = build_dcgan_generator(64, 16, initial_weights="normal").layers[1].kernel
    assert np.std(kernel) == pytest.approx(0.02, rel=0.02)
    other = build_dcgan_generator(64, 16, initial_weights="glorot_uniform").layers[1].kernel
    assert np.std(other) != pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("minibatch_std", [False, True])
def test_an_answer_depends_on_the_batch_only_where_asked_for(minibatch_std):
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)
    discriminator = build_dcgan_discriminator(32, 4, minibatch_std=minibatch_std)
    alone, together = (discriminator(some, training=True)[0, 0] for some in (images[:2], images))
    assert np.isclose(alone, together, atol=1e-5) != minibatch_std


def test_the_chessboard_of_single_pixels_is_removed_and_neither_stripes_nor_shapes():
    rows, columns = np.indices((32, 32))
    chessboard = (-1.0) ** (rows + columns)
    stripes = (-1.0) ** rows + (-1.0) ** columns
    smooth = np.sin(rows / 5) + columns / 32

    def filtered(image):
        return np.array(without_chessboard(image[None, ..., None].astype(np.float32)))[0, :-1, :-1, 0]

    assert abs(filtered(chessboard)).max() < 1e-6
    np.testing.assert_allclose(filtered(stripes), stripes[:-1, :-1], atol=1e-5)
    np.testing.assert_allclose(filtered(smooth), smooth[:-1, :-1], atol=0.01)


def test_a_batch_that_does_not_vary_is_told_apart():
    features = np.random.default_rng(0).standard_normal((8, 4, 4, 3)).astype(np.float32)
    varied = np.array(MinibatchStandardDeviation()(features))
    assert varied.shape == (8, 4, 4, 4)
    np.testing.assert_array_equal(varied[..., :3], features)
    np.testing.assert_allclose(varied[..., 3], features.std(axis=0).mean(), rtol=1e-5)
    same = np.array(MinibatchStandardDeviation()(np.repeat(features[:1], 8, axis=0)))
    np.testing.assert_allclose(same[..., 3], 0, atol=1e-3)


def test_layers_compute_in_the_precision_in_force_and_the_ends_stay_float32():
    with precision("mixed_bfloat16"):
        generator, discriminator = build_pair(choose_settings("brain", "smoke"))
    assert keras.config.dtype_policy().name == "float32"
    assert (generator.layers[1].compute_dtype, discriminator.layers[1].compute_dtype) == ("bfloat16", "bfloat16")
    assert (generator.layers[-1].compute_dtype, discriminator.layers[-1].compute_dtype) == ("float32", "float32")
    assert {weight.dtype for weight in generator.weights + discriminator.weights} == {"float32"}


def test_fixed_latents_are_those_of_the_seed():
    settings = choose_settings("knee", "smoke")
    latents = fixed_latents(settings)
    assert (latents.shape, latents.dtype) == ((16, 256), np.float32)
    np.testing.assert_array_equal(fixed_latents(settings, 64)[:16], latents)
    assert (fixed_latents(choose_settings("knee", "smoke", seed=2)) != latents).any()


@pytest.mark.parametrize("networks", ["brain", "knee", "dcgan"])
def test_settings_reach_the_networks(networks):
    sizes = {"filters": 3, "kernel_size": 5, "latent_dim": 7, "generator_input_dim": 8, "image_size": 64}
    keras.utils.set_random_seed(1)
    generator, _ = build_pair(choose_settings("brain", "smoke", networks=networks, initial_weights="normal", **sizes))
    doublings = [layer for layer in generator.layers if isinstance(layer, keras.layers.Conv2DTranspose)]
    assert (generator.input_shape, len(doublings)) == ((None, 7), 3)
    assert {layer.kernel_size for layer in doublings} == {(5, 5)}
    assert [layer.filters for layer in doublings if layer.filters > 1][-1] in (3, 6)
    assert np.std(generator.layers[1].kernel) == pytest.approx(0.02, rel=0.1)


def test_layers_that_only_some_discriminators_have():
    def kinds(**changes):
        settings = choose_settings("brain", "smoke", "improved", **changes)
        return {type(layer) for layer in build_pair(settings)[1].layers}

    assert kinds() - kinds(minibatch_std=False) == {MinibatchStandardDeviation}


POLICY = "keras.config.set_dtype_policy('mixed_float16')"
WITH_SETTINGS_OF_OTHERS = """
import keras
{before}
from gan_utils.gan import build_gan
from gan_utils.settings import choose_settings
{after}
model = build_gan(choose_settings("{experiment}", "smoke", precision="float32"))
print(model.generator.output_shape, {{variable.dtype for variable in model.variables}}, type(model.optimizer).__name__)
print(keras.backend.backend(), *model.train_on_batch(keras.ops.zeros((16, 32, 32, 1)), return_dict=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "keras_json", "before", "after"),
    [
        ("brain", {"image_data_format": "channels_first", "floatx": "float16"}, "", POLICY),
        ("knee", {"image_data_format": "channels_first", "floatx": "float64"}, POLICY, ""),
    ],
)
def test_keras_settings_for_other_projects_change_nothing(tmp_path, experiment, keras_json, before, after):
    (tmp_path / "keras.json").write_text(json.dumps(keras_json))
    code = WITH_SETTINGS_OF_OTHERS.format(experiment=experiment, before=before, after=after)
    said = run_python(code, KERAS_HOME=str(tmp_path)).stdout.splitlines()
    assert said[0].startswith("(None, 32, 32, 1) ")
    assert "float16" not in said[0]
    assert said[0].endswith(" Adam")
    assert said[1].startswith("tensorflow ")


@pytest.mark.slow
def test_another_keras_backend_is_not_used_or_named(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    code = "import gan_utils, keras; print(keras.backend.backend())"
    assert run_python(code, KERAS_HOME=str(tmp_path)).stdout == "tensorflow\n"
    assert run_python(code, KERAS_BACKEND="jax").stdout == "tensorflow\n"
    keras_on_jax = "keras = types.ModuleType('keras'); keras.config = types.SimpleNamespace(backend=lambda: 'jax')"
    refused = run_python(f"import sys, types; {keras_on_jax}; sys.modules['keras'] = keras; import gan_utils")
    assert "Keras was imported with jax. Set the environment variable KERAS_BACKEND to tensorflow" in refused.stderr


def run_python(code, **variables):
    own = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}  # gan_utils has set it
    variables = {**own, "PYTHONPATH": str(PROJECT_FOLDER), **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
