"""What happens around training: Keras callbacks that save pictures, measure, keep the history and show progress."""

import csv
import math
import time

import keras
import numpy as np
from IPython import get_ipython
from IPython.display import Image, display

from gan_utils.figures import PICTURE_WIDTH, epoch_image_path, read_history, save_image_grid
from gan_utils.progress import UpdatingLine, duration, time_left
from gan_utils.similarity import draw_reference_batches, ssim_with_batches


def fixed_latents(settings, images=16):
    """The latents behind every epoch's grid: always the same, so that the pictures show training and not luck.

    Args:
        settings: `Settings`; uses latent_dim and seed.
        images: how many.

    Returns:
        float32 (images, latent_dim), standard normal.
    """
    return np.random.default_rng(settings.seed).standard_normal((images, settings.latent_dim), dtype=np.float32)


def training_callbacks(settings, folder, data):
    """The callbacks of notebooks/03_train.ipynb, in the order they have to run in."""
    latents = fixed_latents(settings)
    return [
        SaveEpochImages(folder, latents),
        MeasureSsim(latents, draw_reference_batches(data.train.images, settings)),
        WriteHistory(folder),  # after MeasureSsim, whose figure it writes down
        ShowProgress(folder),
    ]


class SaveEpochImages(keras.callbacks.Callback):
    """Saves a grid of images from the same latents after each epoch: image_at_epoch_0001.png, ...

    Args:
        folder: where to save them.
        latents: float (images, latent_dim).
    """

    def __init__(self, folder, latents):
        super().__init__()
        self.folder = folder
        self.latents = latents

    def on_epoch_end(self, epoch, logs=None):
        images = self.model(self.latents, training=False)
        save_image_grid(epoch_image_path(self.folder, epoch + 1), images)


class MeasureSsim(keras.callbacks.Callback):
    """Adds the published SSIM to each epoch's logs, for the callbacks after it: the maximum over all pairs.

    Args:
        latents: float (images, latent_dim).
        reference_batches: `LocalMoments` from `draw_reference_batches`.
    """

    def __init__(self, latents, reference_batches):
        super().__init__()
        self.latents = latents
        self.reference_batches = reference_batches

    def on_epoch_end(self, epoch, logs):
        images = self.model(self.latents, training=False)
        logs["ssim"] = float(ssim_with_batches(images, self.reference_batches).max())


class WriteHistory(keras.callbacks.Callback):
    """Writes a line an epoch to history.csv: epoch (from 1), the means of both losses, SSIM, seconds so far.

    Args:
        folder: where the file lies. Epoch 1 begins it anew; training that goes on from a later epoch adds to it.
    """

    columns = ("epoch", "generator_loss", "discriminator_loss", "ssim", "seconds")

    def __init__(self, folder):
        super().__init__()
        self.path = folder / "history.csv"

    def on_train_begin(self, logs=None):
        self.start = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.start is None:
            self.goes_on = epoch > 0 and self.path.exists()
            seconds_before = read_history(self.path.parent)["seconds"][-1] if self.goes_on else 0.0
            self.start = time.monotonic() - seconds_before

    def on_epoch_end(self, epoch, logs):
        if not self.goes_on:
            self.write("w", self.columns)
            self.goes_on = True
        figures = [f"{logs.get(name, math.nan):.6g}" for name in self.columns[1:-1]]
        self.write("a", [epoch + 1, *figures, f"{time.monotonic() - self.start:.1f}"])

    def write(self, mode, row):
        with open(self.path, mode, newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)


class ShowProgress(keras.callbacks.Callback):
    """One line (epoch, losses, SSIM, time left) and one picture (the newest grid), both updated in place.

    Args:
        folder: where `SaveEpochImages` puts the grids.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()
        self.steps_done = -1
        self.epochs_done = 0
        self.line = UpdatingLine()
        self.picture = None
        self.losses = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
        self.steps_done += 1
        if self.steps_done == 1:
            self.first_step_done = time.monotonic()  # TensorFlow builds its graph in the first step, which takes long
        if self.steps_done > 1 and self.line.is_due():
            timed = self.steps_done - 1  # steps since the first one
            left = time_left(self.first_step_done, timed, timed + (epochs - self.epoch) * steps - batch)
            self.line.show(f"epoch {self.epoch + 1} of {epochs}, step {batch} of {steps}, {left} left{self.losses}")

    def on_epoch_end(self, epoch, logs):
        self.epochs_done += 1
        self.losses = (
            f"; last epoch: generator loss {logs['generator_loss']:.3f}, discriminator loss "
            f"{logs['discriminator_loss']:.3f}, SSIM {logs.get('ssim', math.nan):.3f}"
        )
        if get_ipython():
            path, words = epoch_image_path(self.folder, epoch + 1), f"generated images after epoch {epoch + 1}"
            picture = Image(filename=path, alt=words, width=PICTURE_WIDTH)
            if self.picture is None:
                self.picture = display(picture, display_id=True)
            else:
                self.picture.update(picture)

    def on_train_end(self, logs=None):
        taken = duration(time.monotonic() - self.start)
        self.line.show(f"{self.epochs_done} epochs in {taken}{self.losses}", last=True)
