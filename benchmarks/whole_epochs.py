"""What input, callbacks and pictures add to the bare training steps: five epochs of brains, quick.

Five, because the images are judged in every fifth.
"""

from pathlib import Path

EPOCHS = 5


def start(recipe):
    import keras

    from gan_utils.dcgan import build_gan
    from gan_utils.settings import choose_settings

    settings = choose_settings("brain", "quick", recipe, "simulated", epochs=EPOCHS)
    keras.utils.set_random_seed(1)
    return settings, build_gan(settings), {"images": EPOCHS * settings.steps_per_epoch * settings.batch_size}


def prepare(settings, folder):
    """Slices from PNG files and the callbacks of notebook 3, once a run."""
    from gan_utils.callbacks import training_callbacks
    from gan_utils.datasets import load_slices

    data = load_slices(settings)
    return data, training_callbacks(settings, folder, data)


def preparing(recipe, folder):
    settings, _, _ = start(recipe)
    return lambda: prepare(settings, Path(folder)), {}


def with_everything(recipe, folder):
    """`fit()` as in notebook 3: shuffled batches, all callbacks, everything written."""
    from gan_utils.datasets import training_batches

    settings, gan, said = start(recipe)
    run_folder = Path(folder) / recipe
    run_folder.mkdir()
    data, callbacks = prepare(settings, run_folder)

    def work():
        gan.fit(
            training_batches(data.train.images, settings),
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

    settings, gan, said = start(recipe)
    images = tf.constant(real_images(settings))
    step = tf.function(gan.train_step)

    def work():
        for _ in range(EPOCHS * settings.steps_per_epoch):
            step(images)

    return work, said
