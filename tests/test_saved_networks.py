"""Networks in .keras files: those that are written open in Keras 3.8, those that do not open are named in words."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from gan_utils import PROJECT_FOLDER, DataError
from gan_utils.networks import build_pair, load_network, save_network
from gan_utils.settings import choose_settings
from scripts import export_images

pytestmark = pytest.mark.slow

# The keys that Keras 3.8.0 knows, by what `get_config` of its classes returns; `optional` its InputLayer only takes.
LAYER = "name trainable dtype "
WEIGHTS = "use_bias kernel_initializer kernel_regularizer kernel_constraint bias_initializer bias_regularizer "
DENSE = LAYER + WEIGHTS + "bias_constraint activation "
CONV = DENSE + "filters kernel_size strides padding data_format dilation_rate activity_regularizer "
SCALE_AND_SHIFT = "center scale beta_initializer beta_regularizer beta_constraint "
SCALE_AND_SHIFT += "gamma_initializer gamma_regularizer gamma_constraint "
STATISTICS = "axis momentum epsilon synchronized moving_mean_initializer moving_variance_initializer"
KERAS_3_8 = {
    "Functional": "name trainable layers input_layers output_layers",
    "InputLayer": "name dtype batch_shape sparse optional",
    "Dense": DENSE + "units",
    "Conv2D": CONV + "groups",
    "Conv2DTranspose": CONV,
    "BatchNormalization": LAYER + SCALE_AND_SHIFT + STATISTICS,
    "Dropout": LAYER + "rate seed noise_shape",
    "Flatten": LAYER + "data_format",
    "LeakyReLU": LAYER + "negative_slope",
    "MaxPooling2D": LAYER + "pool_size strides padding data_format",
    "MinibatchStandardDeviation": LAYER + "activity_regularizer autocast",
    "ReLU": LAYER + "max_value negative_slope threshold",
    "Activation": LAYER + "activation",
    "Reshape": LAYER + "target_shape",
    "GlorotUniform": "seed",
    "HeNormal": "seed",
    "RandomNormal": "mean stddev seed",
    "Zeros": "",
    "Ones": "",
    "DTypePolicy": "name",
    "__keras_tensor__": "shape dtype keras_history",
}


def files_in(path):
    with zipfile.ZipFile(path) as saved:
        assert saved.testzip() is None
        return {name: saved.read(name) for name in saved.namelist()}


def unknown_keys(config):
    """The (class, key) pairs that Keras 3.8 does not know, in the text of a config.json."""
    found = []

    def look(part):
        if "class_name" in part:
            known = KERAS_3_8[part["class_name"]].split()
            found.extend((part["class_name"], key) for key in part["config"] if key not in known)
        return part

    json.loads(config, object_hook=look)
    return found


@pytest.mark.parametrize("synchronized", [False, True])
@pytest.mark.parametrize("recipe", ["baseline", "improved"])
@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_saved_networks_are_the_same_and_hold_no_key_that_keras_3_8_refuses(experiment, recipe, synchronized, tmp_path):
    ours, plain = tmp_path / "ours.keras", tmp_path / "plain.keras"
    for network in build_pair(choose_settings(experiment, "smoke", recipe)):
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = synchronized  # as `fast.share_batches` sets it
        save_network(network, ours)
        network.save(plain)
        files, files_of_keras = files_in(ours), files_in(plain)
        assert files.keys() == files_of_keras.keys()
        assert unknown_keys(files["config.json"]) == []
        loaded, loaded_plain = load_network(ours), keras.models.load_model(plain)
        assert loaded.get_config() == loaded_plain.get_config()
        inputs = np.random.default_rng(0).standard_normal((4, *network.input_shape[1:]), dtype=np.float32)
        np.testing.assert_array_equal(loaded(inputs), loaded_plain(inputs))
        np.testing.assert_allclose(loaded(inputs), network(inputs), atol=1e-6)


def test_newer_keys_stay_where_they_mean_something(tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(renorm=True, renorm_momentum=0.5)])
    save_network(network, tmp_path / "network.keras")
    layer = load_network(tmp_path / "network.keras").layers[0]
    assert (layer.renorm, layer.renorm_momentum) == (True, 0.5)


ALONE = """
import sys, keras
import gan_utils.networks  # for MinibatchStandardDeviation
print(keras.models.load_model(sys.argv[1]).name)
"""


def test_improved_discriminator_needs_gan_utils_networks_imported(tmp_path):
    path = tmp_path / "discriminator.keras"
    save_network(build_pair(choose_settings("brain", "smoke", "improved"))[1], path)
    command = [sys.executable, "-c", ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER)
    assert done.stdout == "discriminator\n", done.stderr


def of_a_later_keras(path):
    files = files_in(path)
    files["metadata.json"] = b'{"keras_version": "99.1.0"}'
    files["config.json"] = files["config.json"].replace(b'"units"', b'"of_a_later_version": 1, "units"')
    with zipfile.ZipFile(path, "w") as changed:
        for name, content in files.items():
            changed.writestr(name, content)


def without_metadata(path):
    with zipfile.ZipFile(path, "w") as changed:
        changed.writestr("notes.txt", "not a network")


USES_A_LAYER_OF_ITS_OWN = """
import sys, keras
from gan_utils.networks import save_network
@keras.saving.register_keras_serializable()
class Wobble(keras.layers.Layer):
    def call(self, values):
        return 2 * values
save_network(keras.Sequential([keras.Input((4,)), Wobble()]), sys.argv[1])
"""


def test_a_layer_that_is_not_defined_here_is_named(tmp_path):
    path = tmp_path / "generator.keras"
    subprocess.run([sys.executable, "-c", USES_A_LAYER_OF_ITS_OWN, str(path)], cwd=PROJECT_FOLDER, check=True)
    with pytest.raises(
        DataError, match=r"generator\.keras cannot be opened.* Wobble is not defined here: put it into a"
    ):
        load_network(path)


UNUSABLE = [
    (of_a_later_keras, "Keras 99.1.0 wrote it: pip install keras==99.1.0"),
    (without_metadata, "missing or broken"),
    (lambda path: path.write_text("no zip"), "missing or broken"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "missing or broken"),
    (lambda path: path.write_bytes(path.read_bytes().replace(b"HDF", b"XYZ", 1)), "missing or broken"),
    (lambda path: path.unlink(), "missing or broken"),
]


@pytest.mark.parametrize(("damage", "words"), UNUSABLE)
def test_what_cannot_be_opened_is_named_with_the_versions_and_a_fix(damage, words, tmp_path, monkeypatch):
    path = tmp_path / "generator.keras"
    save_network(build_pair(choose_settings("knee", "smoke"))[0], path)
    damage(path)
    with pytest.raises(DataError) as refusal:
        load_network(path)
    for expected in (str(path), f"Keras {keras.__version__}", words, "train again"):
        assert expected in str(refusal.value)
    monkeypatch.setattr(export_images, "parsed_settings", lambda arguments: None)
    monkeypatch.setattr(export_images, "open_run", lambda settings: (tmp_path, settings))
    with pytest.raises(SystemExit, match=r"No images: .*generator\.keras cannot be opened"):
        export_images.main(None)
