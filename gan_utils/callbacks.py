"""What happens around training: Keras callbacks that save pictures, evaluate, keep the history and show progress."""

import csv
import math
import time

import keras
import numpy as np
from IPython import get_ipython

from gan_utils import UpdatingLine, atomic_write, counted, duration, go_on, newest, show_in_place, time_left, write_rows
from gan_utils.data import scale_to_unit_range
from gan_utils.evaluator import Evaluator
from gan_utils.image_statistics import SSIM_IMAGES, sample_images
from gan_utils.metrics import BEST, LOSSES, METRICS, describe_warnings, warnings_of_run, watched
from gan_utils.networks import fixed_latents, generate_images, save_network
from gan_utils.pair import restore_state, save_state
from gan_utils.plots import epoch_image_path, plot_history, save_image_grid, show_figure, show_picture
from gan_utils.run_folder import read_history

EVALUATED_IMAGES = 64  # in every light evaluation
EVALUATED_PROJECTIONS = 128  # enough to see a trend in the sliced Wasserstein distance, at half the price
CLOCKS = {"processor_seconds": time.process_time, "seconds": time.monotonic}  # columns of the history


def training_callbacks(settings, folder, splits, more=()):
    """The callbacks of notebooks/03_train.ipynb, in the order they have to run in.

    `more` are yours: they find all metrics in the logs, and what they change is part of the state that is kept.
    """
    callbacks = [
        SaveEpochImages(folder, fixed_latents(settings)),
        Evaluate(splits, settings),
        WriteHistory(folder),  # after Evaluate, whose metrics it writes down
        KeepBest(folder),  # by the history
        WriteStepLosses(folder),
        ShowProgress(folder),
    ]
    if settings.debug:
        callbacks.append(KeepEveryEpoch(folder, splits.train.images, settings))
    return [*callbacks, *more, KeepState(folder)]  # last: an epoch counts once all of it is on disk


class SaveEpochImages(keras.callbacks.Callback):
    """Saves a grid of images from the same latents after each epoch: image_at_epoch_0001.png, ..."""

    def __init__(self, folder, latents):
        super().__init__()
        self.folder, self.latents = folder, latents

    def on_epoch_end(self, epoch, logs=None):
        images = generate_images(self.model.averaged_generator, self.latents)
        save_image_grid(epoch_image_path(self.folder, epoch + 1), images)


class Evaluate(keras.callbacks.Callback):
    """Adds `METRICS` to the logs: all of them after epoch 1, every evaluate_every-th and the last, some in every epoch.

    A light version of the evaluation in notebooks/04_evaluate.ipynb: 64 images, always from the same latents, and as
    many images of the validation subjects, since the test subjects stay unseen until then. With few images the sliced
    Wasserstein distance is larger: compare it with `swd_real` and with other epochs, not with notebook 4.
    """

    def __init__(self, splits, settings):
        super().__init__()
        self.interval = settings.evaluate_every
        self.latents = fixed_latents(settings, EVALUATED_IMAGES)
        sizes = EVALUATED_IMAGES, EVALUATED_PROJECTIONS
        self.evaluator = Evaluator(splits.validate.images, splits.train.images, settings, *sizes)

    def on_epoch_end(self, epoch, logs):
        every_epoch = [name for name in self.evaluator.names() if METRICS[name].every_epoch]
        images = generate_images(self.model.averaged_generator, self.latents[:SSIM_IMAGES])
        logs.update(self.evaluator(images, every_epoch))
        if epoch + 1 in (1, self.params["epochs"]) or (epoch + 1) % self.interval == 0:
            images = generate_images(self.model.averaged_generator, self.latents)
            logs.update(self.evaluator(images, [name for name in self.evaluator.names() if name not in every_epoch]))


class WriteTable(keras.callbacks.Callback):
    """Adds rows, {column: value}, to a CSV file after every epoch; its first column is a number that grows.

    Training that is resumed keeps the rows of the epochs before, and no others; what they did not measure is blank.
    """

    def __init__(self, path, columns):
        super().__init__()
        self.path, self.columns = path, columns

    def on_train_begin(self, logs=None):
        self.rows = None

    def on_epoch_begin(self, epoch, logs=None):
        if self.rows is None:
            earlier = []
            if (path := newest(self.path)).exists():
                with open(path, newline="", encoding="utf-8") as file:
                    earlier = list(csv.DictReader(file))
                dropped = [name for name in (earlier[0] if earlier else ()) if name not in self.columns]
                self.columns[-1:-1] = dropped  # metrics that are not there any more keep their columns
            self.rows = [row for row in earlier if int(row[self.columns[0]]) <= self.number_after(epoch)]

    def number_after(self, epochs):
        """What the first column ends with after so many epochs."""
        return epochs

    def write(self, rows):
        self.rows += rows
        with write_rows(self.path) as path, open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self.columns, extrasaction="ignore")
            table.writeheader()
            table.writerows(self.rows)


class WriteHistory(WriteTable):
    """Writes a row per epoch to history.csv: epoch (from 1), both mean losses, metrics, seconds so far.

    Seconds are of all cores' work, which does not depend on what else the machine does, and of the clock.
    """

    def __init__(self, folder):
        names = watched()
        real = [f"{name}_real" for name, metric in names.items() if metric.target is None and name not in LOSSES]
        super().__init__(folder / "history.csv", ["epoch", *names, *real, *CLOCKS])

    def on_epoch_begin(self, epoch, logs=None):
        is_first = self.rows is None
        super().on_epoch_begin(epoch)
        if is_first:
            before = self.rows[-1] if self.rows else dict.fromkeys(CLOCKS, "0")
            self.starts = {name: clock() - float(before.get(name) or "nan") for name, clock in CLOCKS.items()}

    def on_epoch_end(self, epoch, logs):
        values = {name: f"{logs[name]:.6g}" for name in self.columns if math.isfinite(logs.get(name, math.nan))}
        seconds = {name: f"{clock() - self.starts[name]:.1f}" for name, clock in CLOCKS.items()}  # nan where unknown
        self.write([{"epoch": epoch + 1, **values, **seconds}])


class KeepBest(keras.callbacks.Callback):
    """Keeps the generator that was best on the validation subjects so far, by `metrics.BEST`: best_generator.keras.

    What earlier epochs had is in the history, so that a run that is continued keeps what was best before.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs):
        if math.isfinite(logs.get(BEST, math.nan)) and np.nanargmin(read_history(self.folder)[BEST]) == epoch:
            with go_on(), atomic_write(self.folder / "best_generator.keras") as path:
                save_network(self.model.averaged_generator, path)


class WriteStepLosses(WriteTable):
    """Writes a row per training step to step_losses.csv: step (from 1), generator_loss, discriminator_loss.

    Where TensorFlow does several steps per call (steps_per_execution), each call has one row: its last step's losses.
    """

    def __init__(self, folder):
        super().__init__(folder / "step_losses.csv", ["step", *LOSSES])

    def number_after(self, epochs):
        return epochs * self.params["steps"]

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch)
        self.epoch, self.losses = epoch, []

    def on_train_batch_end(self, batch, logs):
        step = self.number_after(self.epoch) + batch + 1
        self.losses.append({"step": step, **{name: f"{logs[name]:.6g}" for name in LOSSES}})

    def on_epoch_end(self, epoch, logs=None):
        self.write(self.losses)


class Diverged(ArithmeticError):
    """Training has blown up: a loss is infinite or not a number."""


class KeepState(keras.callbacks.Callback):
    """Keeps the state of training after every epoch, to resume from, and stops where losses are no numbers any more.

    Nothing is kept of such an epoch: the networks are put back to the end of the last whole one, where there is one,
    and `Diverged` is raised. The usual cause is a learning rate that is too high.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs):
        if not all(map(math.isfinite, logs.values())):
            losses = ", ".join(f"{metric.label} {logs[name]:g}" for name, metric in LOSSES.items())
            epochs = restore_state(self.model, self.folder)
            kept = f"The networks are back at the end of epoch {epochs}" if epochs else "No epoch was finished"
            raise Diverged(
                f"Training diverged in epoch {self.epoch + 1}, step {batch + 1}: {losses}. {kept}. Train again with a "
                "smaller generator_learning_rate and discriminator_learning_rate, or with the improved recipe."
            )

    def on_epoch_end(self, epoch, logs=None):
        with go_on():
            save_state(self.model, self.folder, epoch + 1)


class KeepEveryEpoch(keras.callbacks.Callback):
    """Keeps, to find faults, one file an epoch in each of three folders.

    TrainImages/ has sixteen random training images, Intermediate/ sixteen generated ones, both sampled anew each epoch;
    Models/ has both networks, for `networks.load_network`. At 256x256 the brains' take about 110 MB per epoch.
    """

    def __init__(self, folder, training_images, settings):
        super().__init__()
        self.training_images, self.latent_dim, self.seed = training_images, settings.latent_dim, settings.seed
        self.folders = {name: folder / name for name in ("TrainImages", "Intermediate", "Models")}

    def on_train_begin(self, logs=None):
        for folder in self.folders.values():
            folder.mkdir(parents=True, exist_ok=True)

    def on_epoch_end(self, epoch, logs=None):
        name = f"epoch_{epoch + 1:04d}"
        training_images = sample_images(self.training_images, 16, (self.seed, epoch))  # the same after a resume
        save_image_grid(self.folders["TrainImages"] / f"{name}.png", scale_to_unit_range(training_images))
        latents = np.random.default_rng((self.seed, epoch)).standard_normal((16, self.latent_dim), dtype=np.float32)
        images = generate_images(self.model.averaged_generator, latents)
        save_image_grid(self.folders["Intermediate"] / f"{name}.png", images)
        for kind in ("generator", "discriminator"):
            with go_on(), atomic_write(self.folders["Models"] / f"{kind}_{name}.keras") as path:
                save_network(getattr(self.model, kind), path)


class ShowProgress(keras.callbacks.Callback):
    """Warnings, a line (epoch, losses, SSIM, time left), the newest grid and the history, each updated in place."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        self.start, self.calls, self.epochs_done = time.monotonic(), 0, 0
        self.warnings, self.line, self.raised, self.losses = UpdatingLine(), UpdatingLine(), {}, ""
        self.picture = self.graphs = None
        if not (self.folder / "history.csv").exists():
            self.warnings.show("No warnings so far.", last=True)
            return
        history = read_history(self.folder)  # of the epochs before, so that they are seen at once
        self.warnings.show(describe_warnings(history), last=True)
        self.show_epoch(history)

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
        shown = [(metric.label, logs[name]) for name, metric in watched().items() if metric.every_epoch]
        self.losses = "; last epoch: " + ", ".join(f"{label} {value:.3f}" for label, value in shown)
        history = read_history(self.folder)
        raised = warnings_of_run(history)
        if raised.keys() != self.raised.keys():  # a warning that lasts is not news
            self.raised = raised
            lines = [f"Warning in epoch {epochs[0]}. {text}" for text, epochs in raised.items()]
            self.warnings.show("\n".join(lines), last=True)
        self.show_epoch(history, graphs=all(name in logs for name in watched()))

    def show_epoch(self, history, graphs=True):
        """The pictures of the last epoch, and the graphs up to it, in a notebook."""
        if not get_ipython():
            return
        epoch = int(history["epoch"][-1])
        path, words = epoch_image_path(self.folder, epoch), f"Sixteen generated images after epoch {epoch}"
        if path.exists():
            self.picture = show_in_place(self.picture, show_picture(path, alt=words))
        if graphs:
            figure = show_figure(plot_history(history))
            self.graphs = show_in_place(self.graphs, figure)

    def on_train_end(self, logs=None):
        if self.epochs_done:
            taken = duration(time.monotonic() - self.start)
            self.line.show(f"{counted(self.epochs_done, 'epoch')} in {taken}{self.losses}", last=True)
        self.warnings.show(describe_warnings(read_history(self.folder)), last=True)
