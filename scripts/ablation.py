"""An ablation: both recipes, the improved one without each of its parts, and three runs that are made to fail."""

import dataclasses
import math
import sys
import time
from functools import partial

from scripts.command_line import changes_of, make_parser

parser = make_parser("scripts.ablation", __doc__, without=["recipe"])
parser.add_argument("--seconds", type=float, help="of training for each variant; default: as the profile says")
if __name__ == "__main__":
    arguments = parser.parse_args()  # before TensorFlow is imported, so that --help answers at once

from scripts import import_tensorflow

import_tensorflow()

import keras
import numpy as np

import prepare
from gan_utils import UpdatingLine, ablation, counted, data, duration, read_json, write_json
from gan_utils.evaluator import Evaluator
from gan_utils.gan import build_gan
from gan_utils.metrics import find_warnings
from gan_utils.networks import fixed_latents, generate_images
from gan_utils.plots import save_image_grid
from gan_utils.run_folder import archive, run_notes
from gan_utils.settings import choose_settings

SECONDS = {"smoke": 0.5, "quick": 120, "full": 120}  # of training, for each variant
EVALUATED_IMAGES = 256


def main(arguments):
    try:
        changes = changes_of(arguments)
        run_ablation(arguments.experiment, arguments.profile, arguments.data, arguments.seconds, **changes)
    except (ValueError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command continues from here.")


def run_ablation(experiment, profile, data_folder=None, seconds=None, **changes):
    """Train every variant that is not finished yet, and save after each.

    Args:
        experiment, profile, data_folder, **changes: as for `choose_settings`, for both recipes.
        seconds: of training for each variant, or None: as `SECONDS` says.

    Returns:
        The folder, with `run.json` (how it was made), `results.json` (a row for each variant) and a grid of sixteen
        images for each. An earlier one with other settings or data is kept under another name.
    """
    improved = choose_settings(experiment, profile, "improved", data_folder, **changes)
    seconds = seconds or SECONDS[profile]
    variants = ablation.list_variants(experiment, profile, data_folder, **changes)
    prepare.phantoms(improved)
    splits = data.load(improved)
    folder = open_folder(improved, splits)
    there = (folder / ablation.RESULTS).exists()
    finished = {row["name"]: row for row in (ablation.read_ablation(folder) if there else [])}
    evaluator = Evaluator(splits.validate.images, splits.train.images, improved, EVALUATED_IMAGES)
    line = UpdatingLine()
    for number, variant in enumerate(variants):
        if finished.get(variant.name, {}).items() >= description(variant, seconds).items():
            continue
        text = f"Variant {number + 1} of {len(variants)}, {variant.name}"
        show = partial(show_time_left, line, text, later=seconds * (len(variants) - number - 1))
        row, images = train_variant(variant, splits, evaluator, seconds, show)
        picture = f"{number:02d}_{variant.name.replace(',', '').replace(' ', '_')}.png"
        save_image_grid(folder / picture, images[:16])
        finished[variant.name] = {**row, "picture": picture}
        write_json(
            folder / ablation.RESULTS, [finished[variant.name] for variant in variants if variant.name in finished]
        )
    line.show(f"{counted(len(variants), 'variant')} trained and evaluated", last=True)
    return folder


def open_folder(improved, splits):
    """The folder of this ablation, as it is when it was begun in the same way, else anew."""
    folder, notes = ablation.ablation_folder(improved), run_notes(improved, splits)
    if (folder / "run.json").exists():
        before = read_json(folder / "run.json")
        if all(before[name] == notes[name] for name in ("settings", "data")):
            return folder
        print(f"The earlier ablation is kept in {archive(folder).name}.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", notes)
    return folder


def description(variant, seconds):
    """What was asked for, as JSON holds it; a finished variant with the same description is not repeated."""
    return {**variant._asdict(), "settings": dataclasses.asdict(variant.settings), "asked_seconds": seconds}


def show_time_left(line, text, seconds_left, later):
    if line.is_due():
        line.show(f"{text}: {duration(max(seconds_left, 0))} left, then at most {duration(later)} of training")


def train_variant(variant, splits, evaluator, seconds, show=lambda seconds_left: None):
    """Train a variant and evaluate it on validation subjects, never on test subjects: (its row, its images).

    Args:
        variant: `Variant`.
        splits: `Splits`.
        evaluator: `Evaluator` with the validation subjects and all training images; where a variant trains on fewer,
            another one is made.
        seconds, show: see `train_for`.
    """
    images = splits.train.images
    if variant.training_images:
        images = images[: variant.training_images]
        evaluator = Evaluator(splits.validate.images, images, variant.settings, EVALUATED_IMAGES)
    model, measured = train_for(seconds, images, variant.settings, variant.enough_images, show)
    generated = generate_images(model.averaged_generator, fixed_latents(variant.settings, EVALUATED_IMAGES))
    values = evaluator(generated)
    warnings = find_warnings(values | measured)
    return {**description(variant, seconds), **measured, **values, "alarms": warnings}, generated


def train_for(seconds, images, settings, enough_images=None, show=lambda seconds_left: None):
    """Train a new GAN for some seconds.

    Args:
        seconds: of training, without the first step, for most of that goes into building TensorFlow's graphs.
        images: uint8 (slices, image_size, image_size, 1).
        settings: `Settings`.
        enough_images: see `Variant`.
        show: called after every step with the seconds that are left.

    Returns:
        (the GAN, {name: number} of what it took and of its losses in the last quarter of the steps).
    """
    most_steps = enough_images / settings.batch_size if enough_images else math.inf
    start, taken, losses, steps, untimed = None, 0.0, [], 0, 0

    def after_step(batch, logs):
        nonlocal start, taken, steps, untimed
        steps = batch + 1  # of several that share a call, Keras names the last
        untimed = untimed or steps
        losses.append([float(logs["generator_loss"]), float(logs["discriminator_loss"])])
        now = time.monotonic()
        start = start or now
        taken = now - start
        show(seconds - taken)
        model.stop_training = taken >= seconds or steps >= most_steps

    keras.utils.set_random_seed(settings.seed)
    model = build_gan(settings)
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=after_step)
    model.fit(
        data.training_batches(images, settings), steps_per_epoch=2**31, callbacks=[clock], shuffle=False, verbose=0
    )
    last = np.mean(losses[-max(len(losses) // 4, 1) :], axis=0)
    return model, {
        "images_seen": steps * settings.batch_size,
        "seconds": round(taken, 2),
        "images_per_second": round((steps - untimed) * settings.batch_size / taken, 1),
        "generator_loss": round(float(last[0]), 4),
        "discriminator_loss": round(float(last[1]), 4),
    }


if __name__ == "__main__":
    main(arguments)
