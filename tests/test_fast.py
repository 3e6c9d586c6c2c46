"""How it is computed: what is chosen from the device, and faster kernels that change nothing but the time."""

import inspect
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from gan_utils import fast
from gan_utils.fast import (
    byte_dropout,
    choose_computing,
    fused_batch_normalization,
    processor_has_bfloat16,
    speed_up,
    usable_cores,
)
from gan_utils.gan import GAN, build_gan
from gan_utils.networks import (
    build_brain_discriminator,
    build_brain_generator,
    build_knee_discriminator,
    build_knee_generator,
)
from gan_utils.settings import UPDATES, choose_settings

# ---- What is chosen from the device ----------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "words"), [({3}, "1 core"), ({0, 2}, "2 cores")])
def test_only_cores_that_the_process_may_use_are_counted(cores, words, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: cores, raising=False)
    assert usable_cores() == words


@pytest.mark.parametrize(
    ("flags", "answer"), [("avx2 avx512_bf16 fma", True), ("amx_bf16", True), ("avx512f avx512_vnni", False)]
)
def test_processors_are_asked_for_bfloat16(flags, answer, tmp_path):
    (tmp_path / "cpuinfo").write_text(f"model name\t: a processor\nflags\t\t: fpu {flags} sse\n")
    assert processor_has_bfloat16(tmp_path / "cpuinfo") == answer
    assert not processor_has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize(("has_it", "size", "precision"), [
    (True, 128, "mixed_bfloat16"), (True, 64, "float32"), (False, 128, "float32")
])  # fmt: skip
def test_precision_follows_the_processor_and_the_image_size(has_it, size, precision, monkeypatch):
    monkeypatch.setattr(fast, "processor_has_bfloat16", lambda: has_it)
    monkeypatch.setattr(fast, "list_gpus", lambda: [])
    computing = choose_computing(choose_settings("knee", "quick", image_size=size))
    assert (computing.precision, computing.jit_compile, computing.steps_per_execution) == (precision, False, 1)
    assert str(computing).startswith(f"Computing in {precision}, without XLA, 1 step a call, on CPU")


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_gpus_compute_in_bfloat16_from_ampere_on(capability, precision, monkeypatch):
    details = {"device_name": "a GPU", "compute_capability": capability}
    monkeypatch.setattr(fast, "list_gpus", lambda: ["GPU:0"])
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda gpu: details)
    computing = choose_computing(choose_settings("knee", "full", steps_per_epoch=8))
    assert str(computing) == f"Computing in {precision}, without XLA, 8 steps a call, on a GPU"


def test_what_settings_say_is_used_as_it_is():
    computing = choose_computing(
        choose_settings(
            "brain", "full", precision="float32", jit_compile=True, steps_per_execution=5, steps_per_epoch=10
        )
    )
    assert (computing.precision, computing.jit_compile, computing.steps_per_execution) == ("float32", True, 5)


def losses_of_six_steps(recipe, **changes):
    images = np.random.default_rng(0).uniform(-1, 1, (48, 32, 32, 1)).astype("float32")
    keras.utils.set_random_seed(1)
    gan = build_gan(choose_settings("brain", "smoke", recipe, batch_size=8, **{"precision": "float32", **changes}))
    history = fit(gan, images)
    assert gan(np.zeros((1, gan.latent_dim), "float32")).dtype == "float32"
    assert all(weight.dtype == "float32" for weight in gan.generator.weights)
    assert keras.config.dtype_policy().name == "float32"
    return history["generator_loss"][0], history["discriminator_loss"][0]


@pytest.fixture(scope="module", params=["baseline", "improved"])
def recipe_and_its_losses(request):
    return request.param, losses_of_six_steps(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("change", [
    {"precision": "mixed_bfloat16"}, {"steps_per_execution": 2}, {"jit_compile": True}
], ids=str)  # fmt: skip
def test_every_choice_trains_to_nearly_the_same_losses(change, recipe_and_its_losses):
    """Random numbers differ with XLA and, in bfloat16, the rounding; the networks and the losses stay."""
    recipe, losses = recipe_and_its_losses
    np.testing.assert_allclose(losses_of_six_steps(recipe, **change), losses, rtol=0.1)


# ---- Faster kernels --------------------------------------------------------------------------------------------


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(-1, 1, (40, 32, 32, 1)).astype(np.float32)


def make_gan(updates, pair="brain", dropout=True, **losses):
    """As Keras has it, not sped up."""
    keras.utils.set_random_seed(1)
    if pair == "brain":
        networks = build_brain_generator(32, 4, generator_input_dim=4), build_brain_discriminator(32, 4)
    else:
        networks = build_knee_generator(32, 4), build_knee_discriminator(32, 4)
    for layer in dropout_layers(networks[1]):
        layer.rate = layer.rate if dropout else 0.0
    gan = GAN(*networks, updates, seed=1, **losses)
    gan.compile(keras.optimizers.Adam(1e-3, beta_1=0.5), keras.optimizers.Adam(1e-3, beta_1=0.9), run_eagerly=True)
    return gan


def dropout_layers(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout)]


def fit(gan, images):
    return gan.fit(images, batch_size=8, epochs=1, shuffle=False, verbose=0).history


def least_squares(real_logits, fake_logits):
    return tf.reduce_mean((real_logits - 1) ** 2) + tf.reduce_mean(fake_logits**2)


@pytest.mark.slow
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("pair", ["brain", "knee"])
@pytest.mark.parametrize("losses", [{}, {"discriminator_loss": least_squares}], ids=["stock loss", "own loss"])
def test_training_is_that_of_plain_keras(updates, pair, losses, images):
    """After five steps, all weights and what the optimisers remember."""
    plain, fast_one = make_gan(updates, pair, False, **losses), speed_up(make_gan(updates, pair, False, **losses))
    for optimizer in (fast_one.generator_optimizer, fast_one.discriminator_optimizer):
        assert optimizer.update_step.func is fast.fused_adam_step
    histories = [fit(gan, images) for gan in (plain, fast_one)]
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-5)
    for one, other in zip(everything(plain), everything(fast_one), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def everything(gan):
    return [np.array(each) for owner in (gan, gan.generator_optimizer, gan.discriminator_optimizer)
            for each in owner.variables]  # fmt: skip


def sped_up(optimizer):
    network = SimpleNamespace(layers=[])
    speed_up(
        SimpleNamespace(
            generator=network, discriminator=network, generator_optimizer=optimizer, discriminator_optimizer=optimizer
        )
    )
    return optimizer


@pytest.mark.parametrize("options", [
    {}, {"beta_1": 0.5}, {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"epsilon": 0.1},
    {"use_ema": True, "ema_momentum": 0.5}, {"gradient_accumulation_steps": 2},
    {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)},
], ids=list)  # fmt: skip
def test_fused_adam_is_keras_adam(options):
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape).astype(np.float32) for shape in ((50, 3), (7,))]
    gradients = [[tf.constant(rng.standard_normal(start.shape), tf.float32) for start in starts] for _ in range(6)]
    plain, fast_one = (keras.optimizers.Adam(**{"learning_rate": 0.01, **options}) for _ in range(2))
    assert sped_up(fast_one).update_step.func is fast.fused_adam_step
    results = []
    for optimizer in (plain, fast_one):
        variables = [keras.Variable(start) for start in starts]
        optimizer.build(variables)
        for each in gradients:
            optimizer.apply(each, variables)
        results.append([each.numpy() for each in (*variables, *optimizer.variables)])
    assert np.abs(results[0][0] - starts[0]).max() > 1e-3
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", [
    keras.optimizers.Adam(1e-3, amsgrad=True), keras.optimizers.AdamW(1e-3), keras.optimizers.SGD(0.1)
], ids=lambda optimizer: optimizer.name)  # fmt: skip
def test_other_optimizers_are_left_alone(optimizer):
    assert "update_step" not in vars(sped_up(optimizer))


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_byte_dropout_drops_as_keras_does(rate):
    """The same share to 1/512 and the same mean, by other random numbers in every call."""
    layer = keras.layers.Dropout(rate, seed=1)
    drop = partial(byte_dropout, layer)
    ones = np.ones((4, 101, 103, 3), np.float32)  # not a multiple of four values
    first, second, plain = (np.array(each(ones, training=True)) for each in (drop, drop, layer))
    share = round(256 * rate) / 256
    for dropped in (first, second):
        assert (dropped == 0).mean() == pytest.approx(share, abs=0.005)
        assert (dropped == 0).mean() == pytest.approx((plain == 0).mean(), abs=0.007)
        assert dropped.mean() == pytest.approx(1, abs=0.01)
        np.testing.assert_allclose(dropped[dropped > 0], 1 / (1 - share), rtol=1e-6)
    both = ((first == 0) & (second == 0)).mean()
    assert both == pytest.approx(share**2, abs=0.005)  # what one call drops says nothing about the next
    neighbours = ((first[..., 1:] == 0) & (first[..., :-1] == 0)).mean()
    assert neighbours == pytest.approx(share**2, abs=0.005)


def test_byte_dropout_keeps_everything_outside_training_and_at_rate_0():
    ones = np.ones((4, 5), np.float32)
    np.testing.assert_array_equal(byte_dropout(keras.layers.Dropout(0.4), ones), ones)
    np.testing.assert_array_equal(byte_dropout(keras.layers.Dropout(0.4), ones, training=False), ones)
    np.testing.assert_array_equal(byte_dropout(keras.layers.Dropout(0.0), ones, training=True), ones)
    halves = byte_dropout(keras.layers.Dropout(0.4), tf.ones((4, 5), tf.bfloat16), training=True)
    assert (halves.dtype, halves.shape) == (tf.bfloat16, (4, 5))


def test_discriminators_drop_by_bytes_in_training_only(images, monkeypatch):
    called = []
    monkeypatch.setattr(
        fast, "byte_dropout", lambda *args, **options: called.append(1) or byte_dropout(*args, **options)
    )
    gan = speed_up(make_gan("simultaneous"))
    answers = [np.array(gan.discriminator(images, training=training)) for training in (False, False, True, True)]
    assert len(called) == 4 * len(dropout_layers(gan.discriminator)) == 12
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[2] != answers[3]).any()
    fit(gan, images)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rate": 0.5, "noise_shape": (None, 1, 1, 16)}, lambda kept: (kept == kept[:, :1, :1]).all()),
        ({"rate": 0.999}, lambda kept: kept.mean() < 0.01),
        ({"rate": 1.0}, lambda kept: not kept.any()),
    ],
    ids=["whole channels", "nearly everything", "everything"],
)
def test_dropout_that_bytes_cannot_do_is_left_to_keras(options, expected):
    inputs = keras.Input((8, 8, 16))
    discriminator = keras.Model(inputs, keras.layers.Dropout(**options)(inputs))
    optimizer = keras.optimizers.SGD()
    speed_up(
        SimpleNamespace(
            generator=SimpleNamespace(layers=[]),
            discriminator=discriminator,
            generator_optimizer=optimizer,
            discriminator_optimizer=optimizer,
        )
    )
    assert expected(np.array(discriminator(tf.ones((4, 8, 8, 16)), training=True)) > 0)


@pytest.mark.parametrize("shape", [(7, 5, 6, 3), (7, 11)], ids=["feature maps", "vectors"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fused_batch_normalization_is_that_of_keras(shape, policy):
    """Outputs, averages and gradients of two training steps, and what is made of the averages."""
    rng = np.random.default_rng(0)
    batches = [tf.constant(rng.normal(2, 3, shape), tf.float32) for _ in range(2)]
    towards = tf.constant(rng.standard_normal(shape), tf.float32)
    results = []
    for fused in (False, True):
        layer = keras.layers.BatchNormalization(dtype=policy)
        layer.build(shape)
        layer.set_weights([rng.uniform(0.5, 2, shape[-1:]) for _ in range(4)] if not results else results[0][0])
        results.append([layer.get_weights()])
        compute = partial(fused_batch_normalization, layer) if fused else layer
        for batch in batches:
            with tf.GradientTape() as tape:
                tape.watch(batch)
                outputs = compute(tf.cast(batch, layer.compute_dtype), training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * towards)
            assert outputs.dtype == layer.compute_dtype
            results[-1] += [outputs, *tape.gradient(loss, [batch, *layer.trainable_variables])]
        results[-1] += [*layer.get_weights(), compute(tf.cast(batch, layer.compute_dtype), training=False)]
    assert np.abs(results[0][0][2] - results[0][-3]).max() > 0.01  # the averages moved
    for one, other in zip(results[0][1:], results[1][1:], strict=True):
        one, other = (np.array(each).astype(np.float32) for each in (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 if policy == "float32" else 0.1)


def test_batch_normalization_is_fused_in_generators_only(images, monkeypatch):
    called = []
    monkeypatch.setattr(
        fast,
        "fused_batch_normalization",
        lambda layer, *args, **options: called.append(layer.name) or fused_batch_normalization(layer, *args, **options),
    )
    gan = make_gan("simultaneous")
    own = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.BatchNormalization(), gan.discriminator])
    gan = GAN(gan.generator, own, "simultaneous", seed=1)
    gan.compile("adam", "adam", run_eagerly=True)
    fit(speed_up(gan), images)
    assert set(called) == {layer.name for layer in normalizations(gan.generator)}
    assert len(normalizations(gan.generator)) == 3
    assert len(normalizations(own)) == 1


def normalizations(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


OTHER_KINDS = [{"axis": 1}, {"scale": False}, {"center": False}, {"synchronized": True}, {"dtype": "float64"}]
if "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters:
    OTHER_KINDS.append({"renorm": True})


@pytest.mark.parametrize("options", OTHER_KINDS, ids=str)
def test_batch_normalization_of_another_kind_is_left_to_keras(options):
    layer = keras.layers.BatchNormalization(**options)
    layer.build((None, 4, 4, 3))
    assert not fast.normalises_channels(layer)


LOAD = """
import sys

import keras
import numpy as np

folder = sys.argv[1]
discriminator = keras.models.load_model(f"{folder}/discriminator.keras")
images, answers = np.load(f"{folder}/images.npy"), np.load(f"{folder}/answers.npy")
np.testing.assert_allclose(discriminator(images), answers, atol=1e-6)
dropout = [layer for layer in discriminator.layers if "dropout" in layer.name]
assert [type(layer) for layer in dropout] == [keras.layers.Dropout] * 3
assert [layer.rate for layer in dropout] == [0.4, 0.2, 0.2]
assert all("call" not in vars(layer) for layer in dropout)
assert np.abs(discriminator(images, training=True) - answers).max() > 1e-6
assert not [name for name in sys.modules if name.startswith("gan_utils")]
"""


@pytest.mark.slow
def test_what_was_sped_up_is_loaded_by_keras_alone(images, tmp_path):
    gan = build_gan(choose_settings("brain", "smoke", batch_size=8))
    fit(gan, images)
    gan.discriminator.save(tmp_path / "discriminator.keras")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "answers.npy", gan.discriminator(images))
    command = [sys.executable, "-c", LOAD, str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_weights_of_the_whole_gan_fit_a_plain_one(images, tmp_path):
    fast_one, plain = speed_up(make_gan("alternating")), make_gan("alternating")
    fit(fast_one, images[:8])
    fast_one.save_weights(tmp_path / "gan.weights.h5")
    plain.load_weights(tmp_path / "gan.weights.h5")
    for one, other in zip(plain.get_weights(), fast_one.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    optimizers = plain.generator_optimizer, fast_one.generator_optimizer
    for one, other in zip(*(optimizer.variables for optimizer in optimizers), strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.Adam])
def test_a_gan_that_is_compiled_anew_still_trains(optimizer, images):
    gan = build_gan(choose_settings("brain", "smoke", batch_size=8))
    fit(gan, images[:8])
    before = gan.generator.get_weights()
    gan.compile(optimizer(1e-2), optimizer(1e-2))
    fit(gan, images[:8])
    assert any((new != old).any() for new, old in zip(gan.generator.get_weights(), before, strict=True))


@pytest.mark.parametrize(("changes", "steps"), [({}, 8), ({"steps_per_epoch": 604}, 4), ({"steps_per_epoch": None}, 1)])
def test_steps_a_call_divide_the_epoch_on_a_gpu(changes, steps, monkeypatch):
    """Else Keras would round up, and more would be trained than is counted."""
    monkeypatch.setattr(fast, "list_gpus", lambda: ["GPU"])
    monkeypatch.setattr(fast, "gpu_has_bfloat16", lambda gpu: False)
    monkeypatch.setattr(fast, "describe_device", lambda: "a GPU")
    assert choose_computing(choose_settings("brain", "quick", **changes)).steps_per_execution == steps
