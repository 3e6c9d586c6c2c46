"""One training step of a generative adversarial network, as a Keras model that `fit()` can train."""

import keras
import tensorflow as tf

from gan_utils.settings import UPDATES, check_choice

cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)


def discriminator_loss(real_logits, fake_logits):
    """How far the discriminator is from answering 1 for real and 0 for generated images.

    Goodfellow et al. 2014, arXiv 1406.2661. A coin toss costs 2 ln 2 = 1.39; perfect answers cost 0.

    Args:
        real_logits: float (images, 1), the discriminator's answers to real images.
        fake_logits: float (images, 1), its answers to generated images.

    Returns:
        A scalar tensor, 0 or more.
    """
    on_real = cross_entropy(tf.ones_like(real_logits), real_logits)
    on_fake = cross_entropy(tf.zeros_like(fake_logits), fake_logits)
    return on_real + on_fake


def generator_loss(fake_logits):
    """How far the generator is from making the discriminator answer 1. ln 2 = 0.69 where the latter cannot tell.

    Args:
        fake_logits: float (images, 1), the discriminator's answers to generated images.

    Returns:
        A scalar tensor, 0 or more.
    """
    return cross_entropy(tf.ones_like(fake_logits), fake_logits)


class DCGAN(keras.Model):
    """A generator and a discriminator that train each other; built up in notebooks/02 and 03.

    Args:
        generator: `keras.Model`, (images, latent_dim) -> (images, image_size, image_size, 1).
        discriminator: `keras.Model`, (images, image_size, image_size, 1) -> (images, 1), logits.
        updates: "simultaneous": both networks learn from one pass (the brains' order). "alternating": the discriminator
            learns first, then the generator learns through the updated discriminator (the knees' order).
        seed: start of the random latents.

    Example:
        >>> gan = DCGAN(build_knee_generator(64, 8), build_knee_discriminator(64, 8), "alternating", seed=1)
        >>> gan.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
        >>> gan.fit(batches, epochs=2)
    """

    def __init__(self, generator, discriminator, updates="simultaneous", seed=None, **options):
        super().__init__(**options)
        check_choice("updates", updates, UPDATES)
        self.update = self.update_simultaneously if updates == "simultaneous" else self.update_in_turn
        self.generator = generator
        self.discriminator = discriminator
        self.latent_dim = generator.input_shape[-1]
        self.latent_seed = keras.random.SeedGenerator(seed)
        # "loss" is there for callbacks that watch it by this name, such as keras.callbacks.TerminateOnNaN.
        self.loss_means = {
            name: keras.metrics.Mean(name=name) for name in ("generator_loss", "discriminator_loss", "loss")
        }
        self(keras.ops.zeros((1, self.latent_dim)))  # Keras saves the weights of models that were called once

    def compile(self, generator_optimizer, discriminator_optimizer, **options):
        """One optimiser a network; options are those of `keras.Model.compile`.

        Callbacks that change `model.optimizer.learning_rate` act on the generator's.
        """
        # XLA made these networks 1.2 to 2.2 times slower on CPUs, so it is off unless asked for.
        super().compile(optimizer=generator_optimizer, **{"jit_compile": False, **options})
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        # Built here rather than in the first step, so that checkpoints hold the optimisers' state, too.
        generator_optimizer.build(self.generator.trainable_variables)
        discriminator_optimizer.build(self.discriminator.trainable_variables)

    def call(self, latents, training=False):
        """What the generator makes of standard normal latents (images, latent_dim)."""
        return self.generator(latents, training=training)

    @property
    def metrics(self):
        return list(self.loss_means.values())  # listed here, so that Keras resets them at each epoch

    def train_step(self, data):
        """Improve both networks on one batch of real images, float32 (images, image_size, image_size, 1), -1..1.

        Returns the losses of this step; `fit()` shows their means at the end of an epoch.
        """
        real_images, _, _ = keras.utils.unpack_x_y_sample_weight(data)  # fit() may wrap the batch in a tuple
        latents = keras.random.normal((tf.shape(real_images)[0], self.latent_dim), seed=self.latent_seed)
        loss_of_generator, loss_of_discriminator = self.update(real_images, latents)
        losses = {
            "generator_loss": loss_of_generator,
            "discriminator_loss": loss_of_discriminator,
            "loss": loss_of_generator + loss_of_discriminator,
        }
        for name, loss in losses.items():
            self.loss_means[name].update_state(loss)
        return losses

    def update_simultaneously(self, real_images, latents):
        """Both gradients come from the same pass, before either network moves."""
        with tf.GradientTape(persistent=True) as tape:
            fake_images = self.generator(latents, training=True)
            real_logits = self.discriminator(real_images, training=True)
            fake_logits = self.discriminator(fake_images, training=True)
            loss_of_generator = generator_loss(fake_logits)
            loss_of_discriminator = discriminator_loss(real_logits, fake_logits)
        self.improve_generator(tape, loss_of_generator)
        self.improve_discriminator(tape, loss_of_discriminator)
        return loss_of_generator, loss_of_discriminator

    def update_in_turn(self, real_images, latents):
        """The discriminator moves first; then the generator, against the discriminator as it is now."""
        with tf.GradientTape() as generator_tape:
            fake_images = self.generator(latents, training=True)
            with generator_tape.stop_recording():  # the generator's gradient does not run through this update
                with tf.GradientTape() as discriminator_tape:
                    real_logits = self.discriminator(real_images, training=True)
                    fake_logits = self.discriminator(fake_images, training=True)
                    loss_of_discriminator = discriminator_loss(real_logits, fake_logits)
                self.improve_discriminator(discriminator_tape, loss_of_discriminator)
            loss_of_generator = generator_loss(self.discriminator(fake_images, training=True))
        self.improve_generator(generator_tape, loss_of_generator)
        return loss_of_generator, loss_of_discriminator

    def improve_generator(self, tape, loss):
        """Move the generator's weights, and no others, down the gradient of its loss."""
        weights = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(loss, weights), weights)

    def improve_discriminator(self, tape, loss):
        """Move the discriminator's weights, and no others, down the gradient of its loss."""
        weights = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(loss, weights), weights)
