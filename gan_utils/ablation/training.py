"""An ablation: from the baseline to the improved recipe one named change at a time, and three runs made to fail.

python -m gan_utils.ablation [--seconds 120]

The other choices come from GAN_EXPERIMENT, GAN_PROFILE, GAN_DATA and GAN_SETTINGS, as for `python -m gan_utils`.
"""

import argparse
import dataclasses
import math
import os
import sys
import time
from functools import partial

import keras
import numpy as np

from gan_utils.ablation.steps import steps, steps_beside
from gan_utils.alarms import alarms
from gan_utils.callbacks import fixed_latents
from gan_utils.datasets import load_slices, training_batches
from gan_utils.dcgan import build_gan
from gan_utils.figures import save_image_grid
from gan_utils.networks import generate_images
from gan_utils.progress import UpdatingLine, duration
from gan_utils.realism import Judge
from gan_utils.runs import notes_on, read_json, set_aside, write_json
from gan_utils.settings import (
    PROJECT_FOLDER,
    choose_settings,
    project_path,
    read_changes,
    short_path,
)

SECONDS = {"smoke": 0.5, "quick": 120, "full": 120}  # of training, for each step
JUDGED_IMAGES = 256
SHOWCASE = PROJECT_FOLDER / "epoch_images" / "showcase"
RESULTS = "results.json"


class StopAfter(keras.callbacks.Callback):
    """Ends training after some seconds or steps, whichever comes first, and keeps the losses of every step.

    The clock starts at the end of the first step, for most of that goes into building TensorFlow's graphs.

    Args:
        seconds: of training.
        steps: of training.
        show: called after every step with the seconds that are left.
    """

    def __init__(self, seconds, steps, show):
        super().__init__()
        self.limit, self.steps, self.show = seconds, steps, show
        self.start, self.seconds, self.losses = None, 0.0, []

    def on_train_batch_end(self, batch, logs):
        self.losses.append([float(logs["generator_loss"]), float(logs["discriminator_loss"])])
        now = time.monotonic()
        self.start = self.start or now
        self.seconds = now - self.start
        self.show(self.limit - self.seconds)
        self.model.stop_training = self.seconds >= self.limit or len(self.losses) >= self.steps


def train_for(seconds, images, settings, enough_images=None, show=lambda seconds_left: None):
    """Train a new GAN for some seconds.

    Args:
        seconds: of training, without the first step.
        images: uint8 (slices, image_size, image_size, 1).
        settings: `Settings`.
        enough_images: see `Step`.
        show: called after every step with the seconds that are left.

    Returns:
        (the GAN, {name: number} of what it took and of its losses in the last quarter of the steps).
    """
    keras.utils.set_random_seed(settings.seed)
    gan = build_gan(settings)
    clock = StopAfter(seconds, enough_images / settings.batch_size if enough_images else math.inf, show)
    batches = training_batches(images, settings)
    gan.fit(batches, steps_per_epoch=2**31, callbacks=[clock], shuffle=False, verbose=0)
    steps_done = len(clock.losses)
    losses = np.mean(clock.losses[-max(steps_done // 4, 1) :], axis=0)
    return gan, {
        "images_seen": steps_done * settings.batch_size,
        "seconds": round(clock.seconds, 2),
        "images_per_second": round((steps_done - 1) * settings.batch_size / clock.seconds, 1),
        "generator_loss": round(float(losses[0]), 4),
        "discriminator_loss": round(float(losses[1]), 4),
    }


def run_step(step, data, judge, seconds, show=lambda seconds_left: None):
    """Train and judge one step against the validation people, never the test people: (its row, its images).

    Args:
        step: `Step`.
        data: `SliceData`.
        judge: `Judge` of the validation people and all training images; another one is made where fewer train.
        seconds, show: see `train_for`.
    """
    images = data.train.images
    if step.training_images:
        images = images[: step.training_images]
        judge = Judge(data.validate.images, images, JUDGED_IMAGES, step.settings.seed)
    gan, measured = train_for(seconds, images, step.settings, step.enough_images, show)
    generated = generate_images(gan.averaged_generator, fixed_latents(step.settings, JUDGED_IMAGES))
    figures = judge(generated)
    losses = {name: measured[name] for name in ("generator_loss", "discriminator_loss")}
    return {**description(step, seconds), **measured, **figures, "alarms": alarms(figures | losses)}, generated


def description(step, seconds):
    """What was asked for, as JSON holds it; a finished step with the same description is not repeated."""
    return {**step._asdict(), "settings": dataclasses.asdict(step.settings), "asked_seconds": seconds}


def run_ablation(experiment, profile, data_folder=None, seconds=None, **changes):
    """Train every step that is not finished yet, and save after each.

    Args:
        experiment, profile, data_folder, **changes: as for `choose_settings`, for both recipes.
        seconds: of training for each step, or None: as `SECONDS` says.

    Returns:
        The folder, with `run.json` (how it was made), `results.json` (a row for each step) and a grid of sixteen images
        for each. An earlier one with other settings or data is kept under another name.
    """
    seconds = seconds or SECONDS[profile]
    improved = choose_settings(experiment, profile, "improved", data_folder, **changes)
    wanted = [*steps(experiment, profile, data_folder, **changes), *steps_beside(improved)]
    data = load_slices(improved)
    folder = open_folder(improved, data)
    finished = {row["name"]: row for row in (read_ablation(folder) if (folder / RESULTS).exists() else [])}
    judge = Judge(data.validate.images, data.train.images, JUDGED_IMAGES, improved.seed)
    line = UpdatingLine()
    for number, step in enumerate(wanted):
        if finished.get(step.name, {}).items() >= description(step, seconds).items():
            continue
        text = f"Step {number + 1} of {len(wanted)}, {step.name}"
        show = partial(show_time_left, line, text, later=seconds * (len(wanted) - number - 1))
        row, images = run_step(step, data, judge, seconds, show)
        picture = f"{number:02d}_{step.name.replace(',', '').replace(' ', '_')}.png"
        save_image_grid(folder / picture, images[:16])
        finished[step.name] = {**row, "picture": picture}
        write_json(folder / RESULTS, [finished[step.name] for step in wanted if step.name in finished])
    line.show(f"{len(wanted)} steps trained and judged", last=True)
    return folder


def show_time_left(line, text, seconds_left, later):
    if line.is_due():
        line.show(f"{text}: {duration(max(seconds_left, 0))} left, then at most {duration(later)} of training")


def open_folder(improved, data):
    """The folder of this ablation, as it is when it was begun in the same way, else anew."""
    folder, notes = ablation_folder(improved), notes_on(improved, data)
    if (folder / "run.json").exists():
        before = read_json(folder / "run.json")
        if all(before[name] == notes[name] for name in ("settings", "data")):
            return folder
        print(f"The earlier ablation is kept in {set_aside(folder).name}.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", notes)
    return folder


def ablation_folder(settings):
    """Where your own ablation of an experiment lies, such as ablation-brain-quick in the output folder."""
    return project_path(settings.output) / f"ablation-{settings.experiment}-{settings.profile}"


def find_ablation(settings):
    """The folder of your own ablation, or else of the one that comes with the project."""
    own = ablation_folder(settings)
    return own if (own / RESULTS).exists() else SHOWCASE / f"ablation-{settings.experiment}-quick"


def read_ablation(folder):
    """The rows of an ablation, a dict for each step, in the order of training.

    Raises:
        FileNotFoundError: none was made yet.
    """
    if not (folder / RESULTS).exists():
        command = f"make ablation EXPERIMENT={folder.name.split('-')[1]}"
        raise FileNotFoundError(
            f"No ablation in {short_path(folder)}. Run `{command}` in a terminal: about half an hour on two cores."
        )
    return read_json(folder / RESULTS)


def main():
    parser = argparse.ArgumentParser(prog="python -m gan_utils.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="of training for each step; default: as the profile says")
    seconds = parser.parse_args().seconds
    chosen = {name: os.environ.get(f"GAN_{name.upper()}") for name in ("experiment", "profile", "data", "settings")}
    try:
        changes = read_changes(chosen["settings"])
        run_ablation(chosen["experiment"] or "brain", chosen["profile"] or "quick", chosen["data"], seconds, **changes)
    except ValueError as error:
        sys.exit(f"Cannot start: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command goes on from here.")


if __name__ == "__main__":
    main()
