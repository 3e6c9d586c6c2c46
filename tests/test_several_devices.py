import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from gan_utils import dcgan, devices
from gan_utils.dcgan import build_gan
from gan_utils.settings import choose_settings

# A process of its own, because TensorFlow splits a device into several only before it starts.
TRAIN_ON_ONE_AND_ON_TWO = """
import sys

import keras
import numpy as np
import tensorflow as tf

from gan_utils import dcgan
from gan_utils.networks import generate_images
from gan_utils.settings import choose_settings

folder, experiment, recipe = sys.argv[1:4]
changes = {name: eval(value) for name, value in (word.split("=") for word in sys.argv[4:])}
settings = choose_settings(experiment, "smoke", recipe, "simulated", batch_size=8, **changes)
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # which takes longer than the training
images = np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 1)).astype("float32")
latents = np.random.default_rng(0).standard_normal((3, settings.latent_dim), "float32")
strategies = {"one": tf.distribute.get_strategy(), "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
for name, strategy in strategies.items():
    dcgan.choose_strategy = lambda: strategy
    keras.utils.set_random_seed(1)
    gan = dcgan.build_gan(settings)
    steps = []
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(list(logs.values())))
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = gan.fit(batches, shuffle=False, verbose=0, callbacks=[callback]).history
    weights = gan.generator.get_weights() + gan.discriminator.get_weights() + gan.averaged_generator.get_weights()
    gan.averaged_generator.save(f"{folder}/{name}.keras")
    np.savez(
        f"{folder}/{name}.npz",
        steps=np.array(steps, "float64"),
        means=[history[key][0] for key in sorted(history)],
        weights=np.concatenate([np.ravel(weight) for weight in weights]),
        images=generate_images(gan.averaged_generator, latents),
        replicas=gan.distribute_strategy.num_replicas_in_sync,
    )
loaded = generate_images(keras.models.load_model(f"{folder}/two.keras"), latents)
np.testing.assert_allclose(loaded, generate_images(gan.averaged_generator, latents), atol=1e-6)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("knee", "baseline", "r1_gamma=10.0", "r1_interval=2"),  # alternating
        ("brain", "improved", "r1_gamma=10.0", "r1_interval=2"),  # simultaneous; test_several_machines has the baseline
    ],
    ids=" ".join,
)
def test_two_devices_train_as_one_does_with_the_same_batches(words, tmp_path):
    process = run_python(TRAIN_ON_ONE_AND_ON_TWO, tmp_path, *words)
    assert process.returncode == 0, process.stderr
    one, two = (np.load(tmp_path / f"{name}.npz") for name in ("one", "two"))
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert np.ptp(one["steps"][:, 0]) > 1e-3
    for name in ("steps", "means", "weights", "images"):
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)


def run_python(program, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def fresh_choice(monkeypatch):
    """The strategy is chosen once and for all: but anew in a test, and after it."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    devices.choose_strategy.cache_clear()
    yield
    devices.choose_strategy.cache_clear()


@pytest.mark.parametrize(("cards", "chosen"), [(0, "default"), (1, "default"), (2, "mirrored")])
def test_several_graphics_cards_are_all_used(cards, chosen, fresh_choice, monkeypatch):
    monkeypatch.setattr(devices, "graphics_cards", lambda: ["GPU"] * cards)
    monkeypatch.setattr("tensorflow.distribute.MirroredStrategy", lambda: "mirrored")
    monkeypatch.setattr("tensorflow.distribute.get_strategy", lambda: "default")
    assert devices.choose_strategy() == chosen


def test_several_machines_are_all_used(fresh_choice, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}')
    monkeypatch.setattr("tensorflow.distribute.MultiWorkerMirroredStrategy", lambda: "several machines")
    assert devices.choose_strategy() == "several machines"
    assert devices.describe_device().endswith(", on each of 2 machines")


def test_one_machine_in_tf_config_is_alone(fresh_choice, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert devices.choose_strategy() is tf.distribute.get_strategy()


def test_equal_graphics_cards_are_counted(monkeypatch):
    monkeypatch.setattr(devices, "graphics_cards", lambda: ["L4", "L4", "T4"])
    details = lambda card: {"device_name": card, "compute_capability": (8, 9)}  # noqa: E731
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", details)
    assert devices.describe_device() == "2 x L4, T4"


@pytest.mark.parametrize(
    ("devices", "changes", "message"),
    [
        (3, {}, "3 devices cannot share batches of 16 images evenly"),
        (2, {"steps_per_execution": 2}, "steps_per_execution has to be 1 on 2 devices"),
    ],
)
def test_settings_that_devices_cannot_share_are_refused(devices, changes, message, monkeypatch):
    strategy = SimpleNamespace(num_replicas_in_sync=devices)
    monkeypatch.setattr(dcgan, "choose_strategy", lambda: strategy)
    with pytest.raises(ValueError, match=message):
        build_gan(choose_settings("brain", "smoke", **changes))


def test_several_graphics_cards_do_a_step_a_call(monkeypatch):
    monkeypatch.setattr(devices, "cards_have_bfloat16", lambda cards: [False])
    monkeypatch.setattr(devices, "describe_device", lambda: "")
    for cards, steps in ((1, 8), (2, 1)):
        monkeypatch.setattr(devices, "graphics_cards", lambda: ["GPU"] * cards)  # noqa: B023
        assert devices.choose_computing(choose_settings()).steps_per_execution == steps
