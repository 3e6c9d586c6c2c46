"""Every alarm is raised by a training run that was made to fail, and none by the same run as it should be."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan_utils.alarms import alarms, alarms_of_epochs, describe_alarms, in_ranges
from gan_utils.callbacks import StopWhenDiverged, training_callbacks
from gan_utils.datasets import training_batches
from gan_utils.dcgan import build_gan
from gan_utils.figures import read_history
from gan_utils.settings import choose_settings

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
    "judge_interval": 100,  # the first and the last epoch only
}


def draw_heads(number, seed, size=32):
    """Bright grainy ellipses of random height, width and tissue on black: uint8 (number, size, size, 1)."""
    draw = np.random.default_rng(seed)
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    height, width = size * draw.uniform(0.3, 0.48, (2, number, 1, 1))
    tissue = 400 * gaussian_filter(draw.standard_normal((number, size, size)), (0, 2, 2))
    grain = 25 * draw.standard_normal(tissue.shape)
    images = np.where(np.hypot(rows / height, columns / width) < 1, 150 + tissue + grain, 0)
    return np.clip(images, 0, 255).round().astype(np.uint8)[..., None]


def train(folder, leave_out=(), **changes):
    """The history of a run on 200 drawn heads, with the callbacks of notebook 3."""
    settings = dataclasses.replace(choose_settings("brain", "smoke", **HEALTHY), **changes)
    keras.utils.set_random_seed(settings.seed)
    splits = {
        name: SimpleNamespace(images=draw_heads(*of)) for name, of in {"train": (200, 1), "validate": (64, 2)}.items()
    }
    data = SimpleNamespace(**splits)
    build_gan(settings).fit(
        training_batches(data.train.images, settings),
        epochs=settings.epochs,
        steps_per_epoch=settings.steps_per_epoch,
        callbacks=[each for each in training_callbacks(settings, folder, data) if not isinstance(each, leave_out)],
        shuffle=False,
        verbose=0,
    )
    return read_history(folder)


def raised(history):
    """{the first words of an alarm: the epochs that raised it}."""
    return {warning.split(":")[0]: epochs for warning, epochs in alarms_of_epochs(history).items()}


def test_a_healthy_run_raises_no_alarm(tmp_path, capsys):
    history = train(tmp_path)
    assert raised(history) == {}
    assert "Alarms in 6 epochs: none" in capsys.readouterr().err


def test_a_generator_with_next_to_no_input_collapses(tmp_path):
    assert raised(train(tmp_path, latent_dim=1, epochs=4)) == {"Collapse": [4]}


def test_3x3_kernels_in_a_generator_that_learns_too_fast_leave_a_lattice(tmp_path):
    history = train(tmp_path, kernel_size=3, generator_learning_rate=5e-3, beta_1=0.9, epochs=4)
    assert raised(history)["Lattice"] == [4]


def test_a_discriminator_without_an_opponent_wins(tmp_path):
    history = train(tmp_path, generator_learning_rate=1e-9, discriminator_learning_rate=5e-3, epochs=3)
    assert raised(history)["The discriminator has won"] == [2, 3]


def test_training_that_has_blown_up_and_is_not_stopped_says_so_at_once_and_again_at_the_end(tmp_path, capsys):
    history = train(tmp_path, StopWhenDiverged, generator_learning_rate=1e30, epochs=2, steps_per_epoch=4)
    assert raised(history) == {"NaN": [1, 2]}
    said = capsys.readouterr().err
    assert said.count("Alarm in epoch 1. NaN") == 1
    assert "Alarms in 2 epochs:\n- epochs 1, 2: NaN" in said


def test_alarms_from_losses():
    assert alarms({"generator_loss": 0.9, "discriminator_loss": 1.2}) == []
    (warning,) = alarms({"generator_loss": 9.0, "discriminator_loss": 0.01})
    assert warning.startswith("The discriminator has won")
    for broken in (float("nan"), float("inf")):
        (warning,) = alarms({"generator_loss": broken, "discriminator_loss": 0.01})
        assert warning.startswith("NaN")
    assert alarms({}) == []


def make_history(**columns):
    columns = {"epoch": range(1, 6), "generator_loss": [0.8] * 5, "discriminator_loss": [1.2] * 5} | columns
    return np.rec.fromarrays([np.array(column, float) for column in columns.values()], names=list(columns))


def test_judged_figures_raise_alarms_from_epoch_3_on_and_only_where_they_are_there():
    nan = float("nan")
    assert raised(make_history(diversity_ratio=[0.4, 0.4, 0.4, nan, 0.4])) == {"Collapse": [3, 5]}
    assert raised(make_history(high_frequency_ratio=[5, nan, 1, nan, 3])) == {"Lattice": [5]}
    assert raised(make_history(nearest_ratio=[0.2, nan, nan, nan, 0.2])) == {"Memorising": [5]}


def test_losses_and_broken_images_raise_alarms_in_every_epoch():
    assert raised(make_history(discriminator_loss=[0.01, 1, 1, 0.01, 0.01])) == {"The discriminator has won": [1, 4, 5]}
    assert raised(make_history(ssim=[0.5, 0.5, 0.5, 0.5, float("nan")])) == {"NaN": [5]}


def test_alarms_are_described_with_their_epochs():
    history = make_history(discriminator_loss=[1, 1, 0.01, 0.01, 0.01], diversity_ratio=[1, 1, 1, 1, 0.1])
    first, won, collapse = describe_alarms(history).splitlines()
    assert first == "Alarms in 5 epochs:"
    assert won.startswith("- epochs 3-5: The discriminator has won")
    assert collapse.startswith("- epoch 5: Collapse: the generated images are nearly all alike; try")
    assert describe_alarms(make_history()) == "Alarms in 5 epochs: none"


@pytest.mark.parametrize(("numbers", "text"), [([], ""), ([4], "4"), ([1, 2, 4], "1, 2, 4"), ([3, 5, 6, 7], "3, 5-7")])
def test_numbers_in_ranges(numbers, text):
    assert in_ranges(numbers) == text
