"""One training step of a generative adversarial network, as a Keras model that `fit()` can train."""

import keras
import tensorflow as tf

from gan_utils import fast
from gan_utils.networks import build_pair, translated
from gan_utils.pair import NetworkPair, copied
from gan_utils.settings import UPDATES, check_choice

GAN_SETTINGS = ("updates", "penalty_weight", "penalty_decay", "penalty_interval", "translation", "ema_decay", "seed")


@keras.saving.register_keras_serializable("gan_utils")
def discriminator_loss(real_logits, fake_logits):
    """Cross-entropy of a discriminator that should answer 1 to real and 0 to generated images.

    Goodfellow et al. 2014, arXiv 1406.2661; -ln p of the probability p = sigmoid(logit) is softplus(-logit). Tossing a
    coin costs 2 ln 2 = 1.39, perfect answers 0. `real_logits` are the discriminator's answers to real images, float
    (images, 1), `fake_logits` those to generated ones.
    """
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(tf.nn.softplus(fake_logits))


@keras.saving.register_keras_serializable("gan_utils")
def generator_loss(real_logits, fake_logits):
    """Cross-entropy of a generator whose images should be answered by 1; ln 2 = 0.69 where nobody can tell.

    Arguments and result are those of `discriminator_loss`; this loss does not depend on real_logits, others do.
    """
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


@keras.saving.register_keras_serializable("gan_utils")
def relativistic_discriminator_loss(real_logits, fake_logits):
    """Cross-entropy of "which of the two is real?", for each real image and the generated one that it is paired with.

    Jolicoeur-Martineau 2018, arXiv 1807.00734. Arguments are those of `discriminator_loss`; a coin costs ln 2 = 0.69.
    """
    return tf.reduce_mean(tf.nn.softplus(fake_logits - real_logits))


@keras.saving.register_keras_serializable("gan_utils")
def relativistic_generator_loss(real_logits, fake_logits):
    """The same question with the roles exchanged: a generated image should look more real than a real one."""
    return relativistic_discriminator_loss(fake_logits, real_logits)


LOSSES = {
    "cross_entropy": (generator_loss, discriminator_loss),
    "relativistic": (relativistic_generator_loss, relativistic_discriminator_loss),
}


@keras.saving.register_keras_serializable("gan_utils")
class GAN(NetworkPair):
    """A generator and a discriminator that train each other; built up in notebooks/02 and 03.

    Args:
        generator: `keras.Model`, (images, latent_dim) -> (images, image_size, image_size, 1). Latents are its first
            input if it has several.
        discriminator: `keras.Model`, (images, image_size, image_size, 1) -> (images, 1), logits.
        updates: "simultaneous": both networks learn from one pass (as published for brains). "alternating": the
            discriminator learns first, then the generator through the updated discriminator (for knees).
        generator_loss, discriminator_loss: functions of (real_logits, fake_logits), each float (images, 1), that
            return a mean over the images, by `tf.reduce_mean`. After changing them, `compile` anew.
        penalty_weight, penalty_decay, penalty_interval, translation, ema_decay: see `Settings`; off at 0.
        seed: start of the random latents and translations.

    Attributes:
        averaged_generator: the generator to make images with: a copy whose weights are averaged over training steps,
            or the generator itself where ema_decay is 0.

    For a conditional GAN, train by `fit` alone on batches of (images, labels), and override `generator_input` and
    `discriminator_input` in a subclass (notebook 5). What Keras does with the model (compile, save, load) is in
    `NetworkPair`.

    Example:
        >>> model = GAN(build_knee_generator(64, 8), build_knee_discriminator(64, 8), "alternating", seed=1)
        >>> model.compile("adam", "adam")
        >>> model.fit(batches, epochs=2)
    """

    def __init__(
        self,
        generator,
        discriminator,
        updates="simultaneous",
        *,
        generator_loss=generator_loss,
        discriminator_loss=discriminator_loss,
        penalty_weight=0.0,
        penalty_decay=0,
        penalty_interval=4,
        translation=0.0,
        ema_decay=0.0,
        seed=None,
        **options,
    ):
        super().__init__(generator, discriminator, generator_loss, discriminator_loss, **options)
        check_choice("updates", updates, UPDATES)
        self.updates = updates
        self.update = self.update_simultaneously if updates == "simultaneous" else self.update_in_turn
        self.penalty_weight, self.penalty_decay, self.penalty_interval = penalty_weight, penalty_decay, penalty_interval
        self.translation, self.ema_decay, self.seed = translation, ema_decay, seed
        self.averaged_generator = keras.models.clone_model(generator) if ema_decay else generator
        self.averaged_generator.set_weights(generator.get_weights())
        self.latent_dim = generator.inputs[0].shape[-1]
        self.devices = 1  # that share each batch
        self.random = keras.random.SeedGenerator(seed)
        self.validation_random = keras.random.SeedGenerator(seed)  # so that validating does not change training
        self.built = True  # both networks are; Keras saves the weights of built models only

    def get_config(self):
        return super().get_config() | {name: getattr(self, name) for name in GAN_SETTINGS}

    def train_step(self, data):
        """Improve both networks on one batch of real images, float32 (images, image_size, image_size, 1), -1..1.

        Returns the losses of this training step; `fit()` shows their means at the end of an epoch.
        """
        real_images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)  # labels are None for images alone
        latents = self.sample_latents(tf.shape(real_images)[0])
        losses = self.update(real_images, self.generator_input(latents, labels), labels)
        if self.ema_decay:
            self.average_generator()
        return self.report(*losses)

    def test_step(self, data):
        """Both losses on held-out images, with all layers as they are when images are made."""
        real_images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        latents = self.sample_latents(tf.shape(real_images)[0], self.validation_random)
        fake_images = self.generator(self.generator_input(latents, labels), training=False)
        logits = [self.discriminate(images, labels, training=False) for images in (real_images, fake_images)]
        return self.report(self.generator_loss(*logits), self.discriminator_loss(*logits))

    def report(self, generator_loss, discriminator_loss):
        both = {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
        losses = both | {"loss": generator_loss + discriminator_loss}
        for name, loss in losses.items():
            self.loss_means[name].update_state(loss)
        return losses

    def generator_input(self, latents, labels):
        """What the generator is given; one that is to obey labels takes them, too."""
        return latents

    def discriminator_input(self, images, labels):
        """What the discriminator is given of real and generated images alike."""
        return images

    def sample_latents(self, images, random=None):
        """Standard normal (images, latent_dim)."""
        return keras.random.normal((images, self.latent_dim), seed=random or self.random)

    def update_simultaneously(self, real_images, latents, labels=None):
        """Both gradients come from the same pass, before either network moves."""
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fake_images = self.generator(latents, training=True)
            real_logits = self.discriminate(real_images, labels)
            fake_logits = self.discriminate(fake_images, labels)
            generator_loss = self.generator_loss(real_logits, fake_logits)
            discriminator_loss = self.discriminator_loss(real_logits, fake_logits)
            penalised_loss = discriminator_loss + self.gradient_penalty(real_images, fake_images, labels)
        self.descend(self.generator_optimizer, self.generator, generator_tape, generator_loss)
        self.descend(self.discriminator_optimizer, self.discriminator, discriminator_tape, penalised_loss)
        return generator_loss, discriminator_loss

    def update_in_turn(self, real_images, latents, labels=None):
        """The discriminator moves first; then the generator, against the discriminator as it is now."""
        with tf.GradientTape() as generator_tape:
            fake_images = self.generator(latents, training=True)
        with tf.GradientTape() as discriminator_tape:
            real_logits = self.discriminate(real_images, labels)
            fake_logits = self.discriminate(fake_images, labels)
            discriminator_loss = self.discriminator_loss(real_logits, fake_logits)
            penalised_loss = discriminator_loss + self.gradient_penalty(real_images, fake_images, labels)
        self.descend(self.discriminator_optimizer, self.discriminator, discriminator_tape, penalised_loss)
        with generator_tape:  # records on from where the images were made
            real_logits = self.discriminate(real_images, labels)
            fake_logits = self.discriminate(fake_images, labels)
            generator_loss = self.generator_loss(real_logits, fake_logits)
        self.descend(self.generator_optimizer, self.generator, generator_tape, generator_loss)
        return generator_loss, discriminator_loss

    def discriminate(self, images, labels=None, training=True):
        """The discriminator's logits; it trains on images translated at random where that is asked for."""
        if self.translation and training:
            images = translated(images, self.translation, self.random)
        return self.discriminator(self.discriminator_input(images, labels), training=training)

    def gradient_penalty(self, real_images, fake_images, labels=None):
        """R1 and R2 (Mescheder et al. 2018, arXiv 1801.04406): how steep the discriminator is at real and fake images.

        Lazy, as in Karras et al. 2020 (arXiv 1912.04958): computed in every penalty_interval-th training step only, and
        multiplied by penalty_interval there. Its weight falls to a tenth over penalty_decay images, as generated images
        come nearer to real ones.
        """
        if not self.penalty_weight:
            return 0.0

        steps_done = tf.cast(self.discriminator_optimizer.iterations, tf.int32)

        def penalty():
            slopes = self.squared_slopes(real_images, labels) + self.squared_slopes(fake_images, labels)
            images_seen = steps_done * tf.shape(real_images)[0] * self.devices
            decayed = tf.minimum(images_seen / self.penalty_decay, 1.0) if self.penalty_decay else 0.0
            weight = self.penalty_weight * 0.1 ** tf.cast(decayed, tf.float32)
            return weight / 2 * self.penalty_interval * tf.reduce_mean(slopes)

        return tf.cond(steps_done % self.penalty_interval == 0, penalty, lambda: 0.0)

    def squared_slopes(self, images, labels=None):
        """The squared length of the logit's gradient at each image, float (images,)."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = self.discriminator(self.discriminator_input(images, labels), training=True)
        return tf.reduce_sum(tape.gradient(logits, images) ** 2, axis=(1, 2, 3))

    def descend(self, optimizer, network, tape, loss):
        """Move the weights of one network, and no others, down the gradient of its loss."""
        weights = network.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)

    def average_generator(self):
        """Move the averaged generator's weights, batch statistics included, a little towards the generator's.

        The first training steps move them further, so that the untrained weights are soon forgotten.
        """
        steps_done = tf.cast(self.generator_optimizer.iterations, tf.float32)
        decay = tf.minimum(self.ema_decay, (1 + steps_done) / (10 + steps_done))
        for average, weight in zip(self.averaged_generator.weights, self.generator.weights, strict=True):
            average.assign(decay * average + (1 - decay) * weight)


def build_gan(
    settings, generator=None, discriminator=None, generator_loss=None, discriminator_loss=None, gan_class=GAN
):
    """The untrained `GAN` that the settings describe, compiled with an Adam optimiser for each network.

    It trains on all GPUs that TensorFlow sees, each of which takes an equal part of every batch.

    Args:
        settings: `Settings`.
        generator, discriminator: your own `keras.Model` instead of those of the settings; copies of them are trained,
            from the weights they have, so that a second run starts where the first one did.
        generator_loss, discriminator_loss: your own functions of (real_logits, fake_logits) instead; see `GAN`.
        gan_class: your own subclass of `GAN` instead, such as a conditional one.

    Raises:
        ValueError: several devices cannot train with these settings, or images of your own network have another size;
            the text says which.
    """
    computing, strategy = fast.choose_computing(settings), fast.choose_strategy()
    fast.check_sharing(settings, computing, strategy.num_replicas_in_sync)
    with strategy.scope(), fast.precision("float32"):
        with fast.precision(computing.precision):
            pair = build_pair(settings)
        model = gan_class(
            copied(generator, "generator", settings.image_size) if generator else pair[0],
            copied(discriminator, "discriminator", settings.image_size) if discriminator else pair[1],
            generator_loss=generator_loss or LOSSES[settings.loss][0],
            discriminator_loss=discriminator_loss or LOSSES[settings.loss][1],
            **{name: getattr(settings, name) for name in GAN_SETTINGS},
        )
        model.compile(
            keras.optimizers.Adam(settings.generator_learning_rate, beta_1=settings.beta_1),
            keras.optimizers.Adam(settings.discriminator_learning_rate, beta_1=settings.beta_1),
            jit_compile=computing.jit_compile,
            steps_per_execution=computing.steps_per_execution,
        )
    fast.share_batches(model, strategy.num_replicas_in_sync)
    return fast.speed_up(model)  # the same training in less time; without it, it is slower and nothing else
