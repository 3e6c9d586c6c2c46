"""What happens around training: Keras callbacks that save pictures, measure, keep the history and show progress."""

import csv
import math
import time

import keras
import numpy as np
from IPython import get_ipython
from IPython.display import display

from gan_utils.alarms import alarms_of_epochs, describe_alarms
from gan_utils.datasets import scale_to_unit_range
from gan_utils.figures import (
    epoch_image_path,
    plot_judgements,
    read_history,
    save_image_grid,
    show_figure,
    show_picture,
)
from gan_utils.networks import generate_images
from gan_utils.progress import UpdatingLine, UpdatingMessage, duration, time_left
from gan_utils.realism import Judge, draw_images
from gan_utils.runs import restore_state, save_state, written_beside
from gan_utils.similarity import published_ssim

LOSSES = "generator_loss", "discriminator_loss"
JUDGED_IMAGES = 64  # in every light judgement
JUDGED_PROJECTIONS = 128  # enough to see a trend in the sliced Wasserstein distance, at half the price
JUDGED_FIGURES = "diversity_ratio", "high_frequency_ratio", "nearest_ratio", "swd", "swd_real"
JUDGEMENTS_IN_WORDS = (
    "Three graphs over the epochs: both losses; the distance of generated and of training images to held-out people; "
    "and the diversity, high-frequency and nearest ratios beside the line of real images; thin lines mark alarms"
)


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
    callbacks = [
        StopWhenDiverged(folder),
        SaveEpochImages(folder, latents),
        MeasureSsim(latents, published_ssim(data, settings)),
        JudgeImages(data, settings),
        WriteHistory(folder),  # after MeasureSsim and JudgeImages, whose figures it writes down
        WriteStepLosses(folder),
        ShowAlarms(folder),
        ShowProgress(folder),
        ShowJudgements(folder),
    ]
    if settings.debug:
        callbacks.append(KeepEveryEpoch(folder, data.train.images, settings))
    return [*callbacks, KeepState(folder)]  # last: an epoch counts once all of it is on disk


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
        images = generate_images(self.model.averaged_generator, self.latents)
        save_image_grid(epoch_image_path(self.folder, epoch + 1), images)


class MeasureSsim(keras.callbacks.Callback):
    """Adds the published SSIM to each epoch's logs, for the callbacks after it.

    Args:
        latents: float (images, latent_dim).
        measure: images -> SSIM, from `published_ssim`.
    """

    def __init__(self, latents, measure):
        super().__init__()
        self.latents = latents
        self.measure = measure

    def on_epoch_end(self, epoch, logs):
        logs["ssim"] = self.measure(generate_images(self.model.averaged_generator, self.latents))


class JudgeImages(keras.callbacks.Callback):
    """Adds the figures of `Judge` to the logs of epoch 1, of every judge_interval-th and of the last one.

    A light version of the judgement in notebooks/04_evaluate.ipynb: 64 images, always from the same latents, and as
    many of the validation people, since the test people stay unseen until then. The fewer the images, the larger the
    sliced Wasserstein distance: compare it with `swd_real` and with other epochs, not with notebook 4.

    Args:
        data: `SliceData`; uses train and validate.
        settings: `Settings`; uses judge_interval, latent_dim and seed.
    """

    def __init__(self, data, settings):
        super().__init__()
        self.interval = settings.judge_interval
        self.latents = fixed_latents(settings, JUDGED_IMAGES)
        held_out = draw_images(data.validate.images, JUDGED_IMAGES, settings.seed)
        self.judge = Judge(held_out, data.train.images, JUDGED_IMAGES, settings.seed, JUDGED_PROJECTIONS)

    def is_judged(self, epoch):
        """Whether an epoch, counted from 1, is."""
        return epoch in (1, self.params["epochs"]) or epoch % self.interval == 0

    def on_epoch_end(self, epoch, logs):
        if self.is_judged(epoch + 1):
            figures = self.judge(generate_images(self.model.averaged_generator, self.latents))
            logs.update({name: figures[name] for name in JUDGED_FIGURES})


class WriteTable(keras.callbacks.Callback):
    """Adds rows to a CSV file at the end of every epoch; its first column is a number that grows.

    Training that goes on keeps the rows of the epochs before, and no others.

    Args:
        path: the file, a `pathlib.Path`.
        columns: the names in its first line.
    """

    def __init__(self, path, columns):
        super().__init__()
        self.path = path
        self.columns = columns

    def on_train_begin(self, logs=None):
        self.rows = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.rows is None:
            self.rows = [row for row in self.earlier_rows() if int(row[0]) <= self.number_after(epoch)]

    def earlier_rows(self):
        if not self.path.exists():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]

    def number_after(self, epochs):
        """What the first column ends with after so many epochs."""
        return epochs

    def write(self, rows):
        self.rows += rows
        with written_beside(self.path) as path, open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.columns, *self.rows])


class WriteHistory(WriteTable):
    """Writes a line an epoch to history.csv: epoch (from 1), the means of both losses, figures, seconds so far.

    Figures that were not measured in an epoch are nan.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder):
        measured = *LOSSES, "ssim", *JUDGED_FIGURES
        super().__init__(folder / "history.csv", ("epoch", *measured, "seconds"))

    def on_epoch_begin(self, epoch, logs=None):
        is_first = self.rows is None
        super().on_epoch_begin(epoch)
        if is_first:
            self.start = time.monotonic() - (float(self.rows[-1][-1]) if self.rows else 0.0)

    def on_epoch_end(self, epoch, logs):
        figures = [f"{logs.get(name, math.nan):.6g}" for name in self.columns[1:-1]]
        self.write([[epoch + 1, *figures, f"{time.monotonic() - self.start:.1f}"]])


class WriteStepLosses(WriteTable):
    """Writes a line a training step to step_losses.csv: step (from 1), generator_loss, discriminator_loss.

    Where TensorFlow does several steps a call (steps_per_execution), it is a line a call, with its last step's losses.

    Args:
        folder: where the file lies.
    """

    def __init__(self, folder):
        super().__init__(folder / "step_losses.csv", ("step", *LOSSES))

    def number_after(self, epochs):
        return epochs * self.params["steps"]

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch)
        self.epoch = epoch
        self.losses = []

    def on_train_batch_end(self, batch, logs):
        step = self.number_after(self.epoch) + batch + 1
        self.losses.append([step, *(f"{logs[name]:.6g}" for name in self.columns[1:])])

    def on_epoch_end(self, epoch, logs=None):
        self.write(self.losses)


class KeepState(keras.callbacks.Callback):
    """Keeps the state of training after every epoch, so that it can go on from there; see `save_state`.

    Args:
        folder: of the run.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        save_state(self.model, self.folder, epoch + 1)


class Diverged(ArithmeticError):
    """Training has blown up: a loss is infinite or not a number."""


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends training at the first step whose losses are infinite or not numbers, before anything is kept of that epoch.

    The networks are put back to the end of the last whole epoch, where there is one.

    Args:
        folder: where `KeepState` keeps the state.

    Raises:
        Diverged: usually because a learning rate is too high.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs):
        if not all(map(math.isfinite, logs.values())):
            losses = ", ".join(f"{name.replace('_', ' ')} {logs[name]:g}" for name in LOSSES)
            epochs = restore_state(self.model, self.folder)
            kept = f"The networks are back at the end of epoch {epochs}" if epochs else "No epoch was finished"
            raise Diverged(
                f"Training diverged in epoch {self.epoch + 1}, step {batch + 1}: {losses}. {kept}. Train again with a "
                "smaller generator_learning_rate and discriminator_learning_rate, or with the improved recipe."
            )


class KeepEveryEpoch(keras.callbacks.Callback):
    """Keeps, for finding faults, what each epoch trained on and made; one file an epoch in each of three folders.

    TrainImages/ has sixteen training images, Intermediate/ sixteen generated ones, both drawn anew each epoch;
    Models/ has both networks. At 256x256 the brains' networks take about 110 MB an epoch.

    Args:
        folder: the run's folder, in which the three are made.
        training_images: uint8 (slices, image_size, image_size, 1), 0..255.
        settings: `Settings`; uses latent_dim and seed.
    """

    def __init__(self, folder, training_images, settings):
        super().__init__()
        self.training_images = training_images
        self.latent_dim = settings.latent_dim
        self.seed = settings.seed
        self.folders = {name: folder / name for name in ("TrainImages", "Intermediate", "Models")}

    def on_train_begin(self, logs=None):
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        name = f"epoch_{epoch + 1:04d}"
        draw = np.random.default_rng((self.seed, epoch))  # each epoch by itself, so that training can go on
        numbers = draw.integers(len(self.training_images), size=16)
        save_image_grid(self.folders["TrainImages"] / f"{name}.png", scale_to_unit_range(self.training_images[numbers]))
        latents = draw.standard_normal((16, self.latent_dim), dtype=np.float32)
        images = generate_images(self.model.averaged_generator, latents)
        save_image_grid(self.folders["Intermediate"] / f"{name}.png", images)
        for network in (self.model.generator, self.model.discriminator):
            with written_beside(self.folders["Models"] / f"{network.name}_{name}.keras") as path:
                network.save(path)


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
        self.calls = 0
        self.epochs_done = 0
        self.line = UpdatingLine()
        self.picture = None
        self.losses = ""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        epochs, steps = self.params["epochs"], self.params["steps"]
        step = self.epoch * steps + batch
        self.calls += 1
        if self.calls == 2:  # TensorFlow builds its graph in the first one, which takes long
            self.first_timed_step, self.timed_since = step, time.monotonic()
        if self.calls > 2 and self.line.is_due():
            timed = step - self.first_timed_step
            left = time_left(self.timed_since, timed, epochs * steps - self.first_timed_step)
            self.line.show(f"epoch {self.epoch + 1} of {epochs}, step {batch} of {steps}, {left} left{self.losses}")

    def on_epoch_end(self, epoch, logs):
        self.epochs_done += 1
        self.losses = (
            f"; last epoch: generator loss {logs['generator_loss']:.3f}, discriminator loss "
            f"{logs['discriminator_loss']:.3f}, SSIM {logs.get('ssim', math.nan):.3f}"
        )
        if get_ipython():
            words = f"Sixteen generated images after epoch {epoch + 1}"
            picture = show_picture(epoch_image_path(self.folder, epoch + 1), alt=words)
            self.picture = show_in_place(self.picture, picture)

    def on_train_end(self, logs=None):
        taken = duration(time.monotonic() - self.start)
        self.line.show(f"{self.epochs_done} epochs in {taken}{self.losses}", last=True)


def show_in_place(handle, thing):
    """Display a thing, where `handle` is None, or put it in the place of what the handle shows; returns the handle."""
    if handle is None:
        return display(thing, display_id=True)
    handle.update(thing)
    return handle


class ShowAlarms(keras.callbacks.Callback):
    """Says in plain words when something has gone wrong, as soon as it shows, and once more at the end.

    Args:
        folder: where `WriteHistory` puts the history, from which the alarms follow.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.known = 0
        self.message = UpdatingMessage("No alarms so far.")

    def on_epoch_end(self, epoch, logs=None):
        raised = alarms_of_epochs(read_history(self.folder))
        if len(raised) > self.known:  # an alarm that goes on is not news
            self.known = len(raised)
            self.message.show("\n".join(f"Alarm in epoch {epochs[0]}. {text}" for text, epochs in raised.items()))

    def on_train_end(self, logs=None):
        self.message.show(describe_alarms(read_history(self.folder)))


class ShowJudgements(keras.callbacks.Callback):
    """One figure with the losses and the figures of `JudgeImages`, drawn anew whenever these were worked out.

    Args:
        folder: where `WriteHistory` puts the history.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.display = None

    def on_epoch_end(self, epoch, logs):
        if not get_ipython() or "swd" not in logs:
            return
        picture = show_figure(plot_judgements(read_history(self.folder)), alt=JUDGEMENTS_IN_WORDS)
        self.display = show_in_place(self.display, picture)
