"""Every warning is raised by a training run that was made to fail, and none by the same run as it should be."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan_utils.callbacks import KeepState, training_callbacks
from gan_utils.data import training_batches
from gan_utils.gan import build_gan
from gan_utils.metrics import warnings_of_run
from gan_utils.run_folder import read_history
from gan_utils.settings import choose_settings

pytestmark = pytest.mark.slow

# After 240 steps these make heads of many shapes; each run below fails by what it changes.
HEALTHY = {
    "seed": 2,
    "filters": 8,
    "kernel_size": 4,
    "generator_learning_rate": 1e-3,
    "discriminator_learning_rate": 1e-3,
    "beta_1": 0.5,
    "epochs": 6,
    "steps_per_epoch": 40,
    "ssim_batches": 1,
    "evaluate_every": 100,  # the first and the last epoch only
}


def paint_heads(number, seed, size=32):
    """Bright grainy ellipses of random height, width and tissue on black: uint8 (number, size, size, 1)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    height, width = size * rng.uniform(0.3, 0.48, (2, number, 1, 1))
    tissue = 400 * gaussian_filter(rng.standard_normal((number, size, size)), (0, 2, 2))
    grain = 25 * rng.standard_normal(tissue.shape)
    images = np.where(np.hypot(rows / height, columns / width) < 1, 150 + tissue + grain, 0)
    return np.clip(images, 0, 255).round().astype(np.uint8)[..., None]


def train(folder, leave_out=(), **changes):
    """The history of a run on 200 painted heads, with the callbacks of notebook 3."""
    settings = dataclasses.replace(choose_settings("brain", "smoke", **HEALTHY), **changes)
    keras.utils.set_random_seed(settings.seed)
    splits = {
        name: SimpleNamespace(images=paint_heads(*of)) for name, of in {"train": (200, 1), "validate": (64, 2)}.items()
    }
    splits = SimpleNamespace(**splits)
    build_gan(settings).fit(
        training_batches(splits.train.images, settings),
        epochs=settings.epochs,
        steps_per_epoch=settings.steps_per_epoch,
        callbacks=[each for each in training_callbacks(settings, folder, splits) if not isinstance(each, leave_out)],
        shuffle=False,
        verbose=0,
    )
    return read_history(folder)


def raised(history):
    """{the first words of a warning: the epochs that raised it}."""
    return {warning.split(":")[0]: epochs for warning, epochs in warnings_of_run(history).items()}


def test_a_healthy_run_raises_no_warning(tmp_path, capsys):
    history = train(tmp_path)
    assert raised(history) == {}
    assert "Warnings in 6 epochs: none" in capsys.readouterr().err


def test_a_generator_with_next_to_no_input_collapses(tmp_path):
    assert raised(train(tmp_path, latent_dim=1, epochs=4)) == {"Collapse": [4]}


def test_3x3_kernels_in_a_generator_that_learns_too_fast_leave_a_lattice(tmp_path):
    history = train(tmp_path, kernel_size=3, generator_learning_rate=5e-3, beta_1=0.9, epochs=4)
    assert raised(history)["Lattice"] == [4]


def test_a_discriminator_without_an_opponent_wins(tmp_path):
    history = train(tmp_path, generator_learning_rate=1e-9, discriminator_learning_rate=5e-3, epochs=3)
    assert raised(history)["The discriminator has won"] == [2, 3]


def test_training_that_has_blown_up_and_is_not_stopped_says_so_at_once_and_again_at_the_end(tmp_path, capsys):
    history = train(tmp_path, KeepState, generator_learning_rate=1e30, epochs=2, steps_per_epoch=4)
    assert raised(history) == {"NaN": [1, 2]}
    said = capsys.readouterr().err
    assert said.count("Warning in epoch 1. NaN") == 1
    assert "Warnings in 2 epochs:\n- from epoch 1 on, in 2 of 2: NaN" in said
