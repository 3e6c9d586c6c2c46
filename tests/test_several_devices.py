"""Several devices that share each batch take the training step of one; and when they are used."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from gan_utils import fast
from gan_utils.gan import build_gan
from gan_utils.settings import choose_settings

pytestmark = pytest.mark.slow

CASES = {
    "alternating": ("knee", "baseline", {"penalty_weight": 10.0, "penalty_interval": 2}),
    "simultaneous": ("brain", "baseline", {}),
    "improved": (
        "brain",
        "improved",
        {"minibatch_std": False, "translation": 0.0, "penalty_weight": 10.0, "penalty_interval": 2},
    ),
    # Dropout and translations, whose random numbers are not those of one device.
    "random": ("brain", "baseline", {"translation": 0.1, "ema_decay": 0.9}),
}

# A process of its own, because TensorFlow splits a device into several only before it starts.
TRAIN_ON_ONE_AND_ON_TWO = """
import sys

import keras
import numpy as np
import tensorflow as tf

from gan_utils.data import training_batches
from gan_utils.gan import build_gan
from gan_utils.networks import generate_images
from gan_utils.settings import choose_settings

folder, cases = sys.argv[1], eval(sys.argv[2])
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # which takes longer than the training
images = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 1), dtype=np.uint8)
strategies = {"one": tf.distribute.get_strategy(), "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}


def values_on_devices(strategy, variable):
    values = strategy.experimental_local_results(variable.value)
    assert len(values) == strategy.num_replicas_in_sync
    return [np.array(value) for value in values]


for case, (experiment, recipe, changes) in cases.items():
    settings = choose_settings(experiment, "smoke", recipe, batch_size=8, steps_per_epoch=4, **changes)
    latents = np.random.default_rng(0).standard_normal((3, settings.latent_dim), "float32")
    for name, strategy in strategies.items():
        keras.utils.set_random_seed(1)
        with strategy.scope():
            gan = build_gan(settings)
        if case == "simultaneous":
            for layer in gan.discriminator.layers:
                if isinstance(layer, keras.layers.Dropout):
                    layer.rate = 0.0
            with strategy.scope():  # Adam would not notice gradients that are twice as large
                gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
        before = gan.get_weights()
        steps = []
        note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(list(logs.values())))
        batches = training_batches(images, settings)
        history = gan.fit(batches, epochs=1, steps_per_epoch=4, shuffle=False, verbose=0, callbacks=[note]).history
        spread = max(np.ptp(values_on_devices(strategy, weight), axis=0).max() for weight in gan.weights)
        moved = max(np.abs(new - old).max() for new, old in zip(gan.get_weights(), before, strict=True))
        np.savez(
            f"{folder}/{case}-{name}.npz",
            steps=np.array(steps, "float64"),
            means=[history[key][0] for key in sorted(history)],
            weights=np.concatenate([np.ravel(weight) for weight in gan.get_weights()]),
            images=generate_images(gan.averaged_generator, latents),
            replicas=gan.distribute_strategy.num_replicas_in_sync,
            difference_between_devices=spread,
            moved=moved,
        )
    gan.averaged_generator.save(f"{folder}/{case}.keras")
    loaded = generate_images(keras.models.load_model(f"{folder}/{case}.keras"), latents)
    np.testing.assert_allclose(loaded, generate_images(gan.averaged_generator, latents), atol=1e-6)

own = build_gan(choose_settings("brain", "smoke", batch_size=8)).generator
with strategies["two"].scope():
    gan = build_gan(choose_settings("brain", "smoke", batch_size=8), generator=own)
kinds = [layer.synchronized for layer in gan.generator.layers if isinstance(layer, keras.layers.BatchNormalization)]
assert kinds and all(kinds), "batch normalisation of one's own network has to cover the whole batch"

for name, strategy in strategies.items():
    with strategy.scope():
        gan = build_gan(choose_settings("knee", "smoke", batch_size=8))

    @tf.function
    def sampled():
        return strategy.run(lambda: gan.sample_latents(8 // strategy.num_replicas_in_sync))

    calls = [np.stack(strategy.experimental_local_results(sampled())) for _ in range(2)]
    np.savez(f"{folder}/latents-{name}.npz", first=calls[0], second=calls[1])
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (what one device has, what two have)}, and "latents"."""
    folder = tmp_path_factory.mktemp("devices")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", TRAIN_ON_ONE_AND_ON_TWO, str(folder), repr(CASES)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert process.returncode == 0, process.stderr
    return {case: [load(folder / f"{case}-{name}.npz") for name in ("one", "two")] for case in (*CASES, "latents")}


def load(path):
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", ["alternating", "simultaneous", "improved"])
def test_two_devices_train_as_one_does_with_the_same_batches(case, results):
    """Also where batches are normalised: over the whole batch, not over one device's part."""
    one, two = results[case]
    assert np.ptp(one["steps"][:, 0]) > 1e-4
    assert one["moved"] > 5e-4
    for name in ("steps", "means", "weights", "images"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_two_devices_keep_the_same_weights(case, results):
    one, two = results[case]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert two["difference_between_devices"] == 0
    assert two["moved"] > 5e-4
    np.testing.assert_allclose(two["steps"], one["steps"], rtol=0.3)


def test_devices_sample_different_latents_which_together_are_those_of_one(results):
    one, two = results["latents"]
    assert one["first"].shape == (1, 8, 256)
    assert two["first"].shape == (2, 4, 256)
    for call in ("first", "second"):
        np.testing.assert_array_equal(two[call].reshape(8, 256), one[call][0])
        assert len(np.unique(two[call])) > 2000  # no number is there twice, but for a few by chance
    assert (one["first"] != one["second"]).all()


# ---- When they are used ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gpus", "chosen"), [(0, "default"), (1, "default"), (2, "mirrored")])
def test_several_gpus_are_all_used(gpus, chosen, monkeypatch):
    monkeypatch.setattr(fast, "list_gpus", lambda: ["GPU"] * gpus)
    monkeypatch.setattr("tensorflow.distribute.MirroredStrategy", lambda: "mirrored")
    monkeypatch.setattr("tensorflow.distribute.get_strategy", lambda: "default")
    assert fast.choose_strategy() == chosen


def test_a_strategy_in_force_is_used(monkeypatch):
    monkeypatch.setattr(fast, "list_gpus", lambda: ["GPU"] * 2)
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        assert fast.choose_strategy() is strategy


def test_equal_gpus_are_counted(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(fast, "list_gpus", lambda: ["L4", "L4", "T4"])
    details = lambda gpu: {"device_name": gpu, "compute_capability": (8, 9)}  # noqa: E731
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", details)
    assert fast.describe_device() == "2 x L4, T4"


@pytest.mark.parametrize(
    ("cluster", "machines"),
    [
        ('{"worker": ["a:1", "b:1"]}', 2),
        ('{"chief": ["a:1"], "worker": ["b:1", "c:1"]}', 3),
        ('{"worker": ["a:1"]}', 1),
    ],
)
def test_machines_are_counted(cluster, machines, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {cluster}, "task": {{"type": "worker", "index": 0}}}}')
    assert len(fast.list_machines()) == machines
    assert fast.describe_device().endswith(f", on each of {machines} machines") == (machines > 1)


@pytest.mark.parametrize(
    "config",
    [
        "{",
        "host:1",
        "[1]",
        "null",
        '{"cluster": ["a:1"]}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "boss", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": ["worker"], "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "first"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": 0}',
    ],
)
def test_a_broken_tf_config_is_named(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=r"The environment variable TF_CONFIG is broken .*Unset it"):
        fast.describe_device()


@pytest.mark.parametrize("config", ["", "{}", '{"environment": "cloud"}', '{"cluster": {}, "task": {}}'])
def test_a_tf_config_of_no_machines_is_passed_over(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    assert fast.list_machines() == []


@pytest.mark.parametrize(
    ("devices", "changes", "message"),
    [
        (3, {}, "3 devices cannot share batches of 16 images evenly"),
        (2, {"steps_per_execution": 2}, "steps_per_execution has to be 1 on 2 devices"),
    ],
)
def test_settings_that_devices_cannot_share_are_refused(devices, changes, message, monkeypatch):
    strategy = SimpleNamespace(num_replicas_in_sync=devices)
    monkeypatch.setattr(fast, "choose_strategy", lambda: strategy)
    with pytest.raises(ValueError, match=message):
        build_gan(choose_settings("brain", "smoke", **changes))


def test_several_gpus_do_a_step_a_call(monkeypatch):
    monkeypatch.setattr(fast, "gpu_has_bfloat16", lambda gpu: False)
    monkeypatch.setattr(fast, "describe_device", lambda: "")
    for gpus, steps in ((1, 8), (2, 1)):
        monkeypatch.setattr(fast, "list_gpus", lambda: ["GPU"] * gpus)  # noqa: B023
        assert fast.choose_computing(choose_settings()).steps_per_execution == steps
