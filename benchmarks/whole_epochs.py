"""What input, callbacks and pictures add to the bare training steps: five epochs of brains, quick.

Five, because the images are evaluated in every fifth.
"""

from pathlib import Path

EPOCHS = 5


def start(recipe):
    import keras

    from gan_utils.gan import build_gan
    from gan_utils.settings import choose_settings

    settings = choose_settings("brain", "quick", recipe, "phantoms", epochs=EPOCHS)
    keras.utils.set_random_seed(1)
    return settings, build_gan(settings), {"images": EPOCHS * settings.steps_per_epoch * settings.batch_size}


def get_ready(settings, folder):
    """Slices from PNG files and the callbacks of notebook 3, once a run."""
    from gan_utils.callbacks import training_callbacks
    from gan_utils.data import load

    splits = load(settings)
    return splits, training_callbacks(settings, folder, splits)


def getting_ready(recipe, folder):
    import prepare

    settings, _, _ = start(recipe)
    prepare.phantoms(settings)
    return lambda: get_ready(settings, Path(folder)), {}


def with_everything(recipe, folder):
    """`fit()` as in notebook 3: shuffled batches, all callbacks, everything written."""
    import prepare
    from gan_utils.data import training_batches

    settings, model, said = start(recipe)
    run_folder = Path(folder) / recipe
    run_folder.mkdir()
    prepare.phantoms(settings)
    splits, callbacks = get_ready(settings, run_folder)

    def work():
        model.fit(
            training_batches(splits.train.images, settings),
            epochs=EPOCHS,
            steps_per_epoch=settings.steps_per_epoch,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    return work, said


def bare_steps(recipe):
    """As many steps on one batch that is held in memory, in a plain loop."""
    import tensorflow as tf

    from benchmarks.training_steps import real_images

    settings, model, said = start(recipe)
    images = tf.constant(real_images(settings))
    step = tf.function(model.train_step)

    def work():
        for _ in range(EPOCHS * settings.steps_per_epoch):
            step(images)

    return work, said
