"""One training step of a generative adversarial network, as a Keras model that `fit()` can train."""

import keras
import tensorflow as tf
from keras import layers

from gan_utils.devices import choose_computing, choose_strategy
from gan_utils.networks import build_networks, count_replicas, own_part
from gan_utils.settings import UPDATES, check_choice

cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
# Layers whose output for an image does not hang on the other images of the batch.
IMAGE_BY_IMAGE = (
    layers.InputLayer,
    layers.Conv2D,
    layers.MaxPooling2D,
    layers.LeakyReLU,
    layers.Dropout,
    layers.Flatten,
    layers.Dense,
)


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


def slope_ratio(fake_logits):
    """How `generator_loss` changes with each logit, over how `discriminator_loss` does: -(1 - p) / p for the answer p.

    Held at -e^60, where float32 ends soon, so that no hopeless image makes NaN.

    Args:
        fake_logits: float (images, 1).

    Returns:
        float (images, 1), below 0.
    """
    return -tf.exp(-tf.maximum(fake_logits, -60.0))


def translated(images, share, seed):
    """Images moved by whole pixels, each by up to `share` of its size in either direction, with black moved in.

    Zhao et al. 2020, arXiv 2006.10738: what the discriminator sees of real and generated images is shifted alike, so
    that a small set of real images is harder to learn by heart.

    Args:
        images: float (images, size, size, 1), -1..1.
        share: 0 to 1.
        seed: a `keras.random.SeedGenerator`.
    """
    number, size = tf.shape(images)[0] * count_replicas(), images.shape[1]
    most = int(share * size)
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]], constant_values=-1.0)
    first = keras.random.randint((2, number), 0, 2 * most + 1, seed=seed)
    first = tf.transpose(own_part(tf.transpose(first)))
    rows, columns = tf.unstack(first[..., None] + tf.range(size))
    moved = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(moved, columns, axis=2, batch_dims=1)


class DCGAN(keras.Model):
    """A generator and a discriminator that train each other; built up in notebooks/02 and 03.

    Args:
        generator: `keras.Model`, (images, latent_dim) -> (images, image_size, image_size, 1).
        discriminator: `keras.Model`, (images, image_size, image_size, 1) -> (images, 1), logits.
        updates: "simultaneous": both networks learn from one pass (the brains' order). "alternating": the discriminator
            learns first, then the generator learns through the updated discriminator (the knees' order).
        r1_gamma, r1_interval, translation, ema_decay: see `Settings`; each is off at 0.
        seed: start of the random latents and translations.

    Attributes:
        averaged_generator: the generator to make images with: a copy whose weights are averaged over training steps,
            or the generator itself where ema_decay is 0.

    Example:
        >>> gan = DCGAN(build_knee_generator(64, 8), build_knee_discriminator(64, 8), "alternating", seed=1)
        >>> gan.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
        >>> gan.fit(batches, epochs=2)
    """

    def __init__(
        self,
        generator,
        discriminator,
        updates="simultaneous",
        *,
        r1_gamma=0.0,
        r1_interval=16,
        translation=0.0,
        ema_decay=0.0,
        seed=None,
        **options,
    ):
        super().__init__(**options)
        self.r1_gamma, self.r1_interval = r1_gamma, r1_interval
        self.translation = translation
        self.ema_decay = ema_decay
        check_choice("updates", updates, UPDATES)
        self.update = self.update_simultaneously if updates == "simultaneous" else self.update_in_turn
        self.generator = generator
        self.discriminator = discriminator
        self.averaged_generator = keras.models.clone_model(generator) if ema_decay else generator
        self.averaged_generator.set_weights(generator.get_weights())
        self.judges_one_by_one = all(isinstance(layer, IMAGE_BY_IMAGE) for layer in discriminator.layers)
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

        Returns the losses of this step; `fit()` shows their means at the end of an epoch. Where several devices share
        the batch, this runs on each of them with its part: the gradients are summed by the optimisers, the losses
        averaged by `fit()`.
        """
        real_images, _, _ = keras.utils.unpack_x_y_sample_weight(data)  # fit() may wrap the batch in a tuple
        number, replicas = tf.shape(real_images)[0], count_replicas()
        latents = own_part(keras.random.normal((number * replicas, self.latent_dim), seed=self.latent_seed))
        shares = self.update(real_images, latents)  # Keras divides its losses by the devices, for the sum of gradients
        loss_of_generator, loss_of_discriminator = (share * replicas for share in shares)
        if self.ema_decay:
            self.average_generator()
        losses = {
            "generator_loss": loss_of_generator,
            "discriminator_loss": loss_of_discriminator,
            "loss": loss_of_generator + loss_of_discriminator,
        }
        for name, loss in losses.items():
            self.loss_means[name].update_state(loss)
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return {name: loss[None] for name, loss in losses.items()}  # fit() averages them along an axis there
        return losses

    def update_simultaneously(self, real_images, latents):
        """Both gradients come from the same pass, before either network moves."""
        with tf.GradientTape() as generator_tape:
            fake_images = self.generator(latents, training=True)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(fake_images)
            real_logits = self.judge(real_images)
            fake_logits = self.judge(fake_images)
            loss_of_generator = generator_loss(fake_logits)
            loss_of_discriminator = discriminator_loss(real_logits, fake_logits)
            penalised_loss = loss_of_discriminator + self.gradient_penalty(real_images)
        weights = self.discriminator.trainable_variables
        if self.judges_one_by_one:  # the way back through the discriminator that its own update needs serves both
            *gradients, slopes = tape.gradient(penalised_loss, [*weights, fake_images])
            slopes *= slope_ratio(fake_logits)[:, None, None]
        else:
            gradients, slopes = tape.gradient(penalised_loss, weights), tape.gradient(loss_of_generator, fake_images)
        self.improve_generator(generator_tape, fake_images, output_gradients=slopes)
        self.discriminator_optimizer.apply(gradients, weights)
        return loss_of_generator, loss_of_discriminator

    def update_in_turn(self, real_images, latents):
        """The discriminator moves first; then the generator, against the discriminator as it is now."""
        with tf.GradientTape() as generator_tape:
            fake_images = self.generator(latents, training=True)
            with generator_tape.stop_recording():  # the generator's gradient does not run through this update
                with tf.GradientTape() as discriminator_tape:
                    real_logits = self.judge(real_images)
                    fake_logits = self.judge(fake_images)
                    loss_of_discriminator = discriminator_loss(real_logits, fake_logits)
                    penalised_loss = loss_of_discriminator + self.gradient_penalty(real_images)
                self.improve_discriminator(discriminator_tape, penalised_loss)
            loss_of_generator = generator_loss(self.judge(fake_images))
        self.improve_generator(generator_tape, loss_of_generator)
        return loss_of_generator, loss_of_discriminator

    def judge(self, images):
        """The discriminator's logits; it sees images translated at random where that is asked for."""
        if self.translation:
            images = translated(images, self.translation, self.latent_seed)
        return self.discriminator(images, training=True)

    def gradient_penalty(self, real_images):
        """What the discriminator pays for being steep around real images; asked for once in r1_interval steps.

        R1 of Mescheder et al. 2018 (arXiv 1801.04406), done lazily and that much more strongly, as in Karras et al.
        2020 (arXiv 1912.04958): in the other steps it is 0 and costs nothing.
        """
        if not self.r1_gamma:
            return 0.0
        number, replicas = tf.shape(real_images)[0], count_replicas()

        def penalty(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                logits = tf.reduce_sum(self.discriminator(images, training=True))
            steepness = tf.reduce_sum(tape.gradient(logits, images) ** 2) / tf.cast(number * replicas, images.dtype)
            return self.r1_gamma / 2 * self.r1_interval * steepness

        is_due = tf.cast(self.discriminator_optimizer.iterations, tf.int32) % self.r1_interval == 0
        if replicas == 1 or self.judges_one_by_one:
            return tf.cond(is_due, lambda: penalty(real_images), lambda: 0.0)
        # Devices cannot exchange sums within tf.cond: in the other steps they do for one image, which does not count.
        return tf.where(is_due, penalty(real_images[: tf.where(is_due, number, 1)]), 0.0)

    def average_generator(self):
        """Move the averaged generator's weights, batch statistics included, a little towards the generator's.

        The first steps move them further, so that the untrained weights are soon forgotten.
        """
        steps_done = tf.cast(self.generator_optimizer.iterations, tf.float32)
        decay = tf.minimum(self.ema_decay, (1 + steps_done) / (10 + steps_done))
        for average, weight in zip(self.averaged_generator.weights, self.generator.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight)

    def improve_generator(self, tape, target, **options):
        """Move the generator's weights, and no others, downhill: by its loss, or by its images and their slopes."""
        weights = self.generator.trainable_variables
        self.generator_optimizer.apply(tape.gradient(target, weights, **options), weights)

    def improve_discriminator(self, tape, loss):
        """Move the discriminator's weights, and no others, down the gradient of its loss."""
        weights = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply(tape.gradient(loss, weights), weights)


def build_gan(settings):
    """The untrained `DCGAN` that the settings describe, compiled with its two optimisers.

    It trains on all devices that `choose_strategy` found, each of which takes an equal part of every batch.

    Args:
        settings: `Settings`.

    Raises:
        ValueError: several devices cannot train with these settings; the text says which.
    """
    computing, strategy = choose_computing(settings), choose_strategy()
    check_sharing(settings, computing, strategy.num_replicas_in_sync)
    with strategy.scope():
        gan = DCGAN(
            *build_networks(settings),
            updates=settings.updates,
            r1_gamma=settings.r1_gamma,
            r1_interval=settings.r1_interval,
            translation=settings.translation,
            ema_decay=settings.ema_decay,
            seed=settings.seed,
        )
        gan.compile(
            FusedAdam(settings.generator_learning_rate, beta_1=settings.beta_1),
            FusedAdam(settings.discriminator_learning_rate, beta_1=settings.beta_1),
            jit_compile=computing.jit_compile,
            steps_per_execution=computing.steps_per_execution,
        )
    return gan


def check_sharing(settings, computing, devices):
    """Refuse settings that several devices cannot train with."""
    if settings.batch_size % devices:
        raise ValueError(
            f"{devices} devices cannot share batches of {settings.batch_size} images evenly: choose a batch_size that "
            f"is a multiple of {devices}"
        )
    if devices > 1 and computing.steps_per_execution > 1:
        raise ValueError(f"steps_per_execution has to be 1 on {devices} devices, for the sake of Keras")


@keras.saving.register_keras_serializable("gan_utils")
class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam (Kingma and Ba 2015, arXiv 1412.6980), done by one TensorFlow kernel a weight instead of a dozen.

    The result is the same but for rounding. The kernel passes over the memory once, which tells where weights are many:
    the brains' generator has 27 million.
    """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        steps_done = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), steps_done),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), steps_done),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
