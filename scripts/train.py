"""Train as notebook 3 does, without the notebook."""

import sys

from scripts.command_line import make_parser, parsed_settings, start_over

parser = make_parser("scripts.train", __doc__, trains=True)
if __name__ == "__main__":
    arguments = parser.parse_args()  # before TensorFlow is imported, so that --help answers at once

from scripts import import_tensorflow

import_tensorflow()

import keras

import prepare
from gan_utils import data, describe_setup, run_folder, short_path
from gan_utils.callbacks import Diverged, training_callbacks
from gan_utils.fast import choose_computing
from gan_utils.gan import build_gan


def main(arguments):
    try:
        settings = parsed_settings(arguments)
        if arguments.start_over:
            start_over(settings)
        train(settings)
    except (ValueError, Diverged, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot train: {error}")
    except KeyboardInterrupt:
        again = "the same command without START_OVER" if arguments.start_over else "the same command"
        sys.exit(f"\nStopped; {again} continues after the last whole epoch.")


def train(settings, *more_callbacks):
    """Train the GAN that the settings describe; what was cut off continues after its last whole epoch.

    Args:
        settings: `Settings`.
        *more_callbacks: `keras.callbacks.Callback`, your own.

    Returns:
        The run's folder, with what notebook 4 needs.
    """
    prepare.phantoms(settings)
    splits = data.load(settings)
    keras.utils.set_random_seed(settings.seed)
    model = build_gan(settings)
    with run_folder.training(settings, splits, model) as (folder, epochs_done):
        fit(model, settings, splits, folder, epochs_done, more_callbacks)
    print(f"Everything is in {short_path(folder)}.")
    return folder


def fit(model, settings, splits, folder, epochs_done, more_callbacks=(), options=None):
    """Train a GAN from `epochs_done` on; where there is no folder, this machine writes nothing."""
    print(f"{describe_setup()}\n{choose_computing(settings)}", flush=True)
    batches = data.training_batches(splits.train.images, settings, epochs_done)
    steps = data.steps_in_epoch(splits.train.images, settings)
    model.fit(
        batches.with_options(options) if options else batches,
        initial_epoch=epochs_done,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        callbacks=training_callbacks(settings, folder, splits, more_callbacks) if folder else None,
        shuffle=False,
        verbose=0,
    )


if __name__ == "__main__":
    main(arguments)
