"""The first cell of every notebook: versions and device, without TensorFlow's log."""

import os
import subprocess
import sys

import keras
import pytest

from gan_utils import PROJECT_FOLDER, describe_setup, errors_only

NOISY = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


def test_setup_names_versions_and_device():
    assert describe_setup().startswith("TensorFlow 2.")
    assert f"Keras {keras.__version__}, on " in describe_setup()


@pytest.mark.slow
def test_tensorflow_is_imported_without_its_log():
    first_cell = "import gan_utils; print(gan_utils.describe_setup()); import tensorflow as tf; tf.zeros(3)"
    command = [sys.executable, "-c", first_cell]
    done = subprocess.run(command, env=NOISY, cwd=PROJECT_FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("TensorFlow")
    assert done.stderr == ""


def fail():
    with errors_only():
        os.write(2, b"a library is missing\n")
        raise ImportError("broken")


def test_the_log_is_shown_where_there_is_an_error(capfd):
    with errors_only():
        os.write(2, b"only a note\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ImportError):
        fail()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "a library is missing\nafterwards\n"
