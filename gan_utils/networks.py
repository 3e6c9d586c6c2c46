"""Pairs of networks, two published and one improved: a generator makes images, a discriminator judges them."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gan_utils.devices import choose_computing
from gan_utils.settings import count_doublings


def build_networks(settings):
    """The generator and the discriminator of an experiment, untrained.

    Args:
        settings: `Settings`; uses experiment, networks, image_size, latent_dim, filters and all that describes them,
            and precision.

    Returns:
        (generator, discriminator), two `keras.Model`.
    """
    policy_before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(choose_computing(settings).precision)
    try:
        return build_both(settings)
    finally:
        keras.config.set_dtype_policy(policy_before)


def build_both(s):
    """(generator, discriminator), in Keras' current precision."""
    of_generator = (s.latent_dim, s.generator_input_dim, s.kernel_size, s.initial_weights)
    if s.networks == "dcgan":
        generator = build_dcgan_generator(s.image_size, s.filters, *of_generator)
        discriminator = build_dcgan_discriminator(
            s.image_size, s.filters, s.kernel_size, s.discriminator_batch_norm, s.minibatch_std
        )
    elif s.experiment == "brain":
        generator = build_brain_generator(s.image_size, s.filters, *of_generator)
        discriminator = build_brain_discriminator(s.image_size, s.filters, s.kernel_size)
    else:
        generator = build_knee_generator(s.image_size, s.filters, *of_generator)
        discriminator = build_knee_discriminator(s.image_size, s.filters)
    return generator, discriminator


def initializer(name):
    """What Keras calls a choice of initial_weights in `Settings`."""
    return keras.initializers.RandomNormal(stddev=0.02) if name == "normal" else name


def generate_images(generator, latents):
    """Images from latents, with every value in the range of a picture.

    The knees' generator ends in a plain sum, so that some of its pixels lie a little outside -1..1.

    Args:
        generator: `keras.Model`, such as `keras.models.load_model("generator.keras")`.
        latents: float (images, latent_dim), standard normal.

    Returns:
        float32 array (images, image_size, image_size, 1), -1 (black) to 1 (white).
    """
    return np.clip(generator(latents, training=False), -1, 1)


def build_brain_generator(
    image_size=256,
    filters=64,
    latent_dim=100,
    generator_input_dim=32,
    kernel_size=3,
    initial_weights="glorot_uniform",
):
    """Random vectors -> images: a wide stack of feature maps, doubled in size, with batch normalisation throughout.

    As published for 256x256 brains with 64 filters: 27.6 million parameters, 26 million of them in the dense
    layer. The idea is DCGAN's (Radford et al. 2015, arXiv 1511.06434), the 3x3 kernels and LeakyReLU are not.
    Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels.
        filters: channels of the last hidden layer; the first has 4 times as many.
        latent_dim: length of a random vector.
        generator_input_dim: width and height of the first feature maps in pixels.
        kernel_size: width of the kernels in pixels.
        initial_weights: one of `INITIAL_WEIGHTS` in settings.py.

    Returns:
        A `keras.Model`: float32 (images, latent_dim), standard normal -> float32
        (images, image_size, image_size, 1), -1 (black) to 1 (white).

    Raises:
        ValueError: doubling generator_input_dim does not lead to image_size.

    Example:
        >>> build_brain_generator(image_size=64, filters=8, generator_input_dim=8).output_shape
        (None, 64, 64, 1)
    """
    doublings = count_doublings(generator_input_dim, image_size)
    weights = {"kernel_initializer": initializer(initial_weights), "use_bias": False}
    doubling = {"kernel_size": kernel_size, "strides": 2, "padding": "same", **weights}
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * 4 * filters, **weights)(latents)
    x = batch_normalization()(x)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    hidden = [2 * filters] * max(doublings - 2, 0) + [filters] * (doublings > 1)  # the last doubling makes the image
    for channels in hidden:
        x = layers.Conv2DTranspose(channels, **doubling)(x)
        x = batch_normalization()(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
    images = layers.Conv2DTranspose(1, **doubling, activation="tanh", name="images", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_brain_discriminator(image_size=256, filters=64, kernel_size=3):
    """Images -> one logit each: above 0 means 'looks real', below 0 'looks generated'.

    As published for 256x256 brains with 64 filters: 0.63 million parameters. Convolutions of stride 2 halve the
    image, dropout keeps it from learning the training images by heart. Built up in
    notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the first layer; the last has 4 times as many.
        kernel_size: width of the kernels in pixels.

    Returns:
        A `keras.Model`: float32 (images, image_size, image_size, 1), -1..1 -> float32 (images, 1), any real number.

    Example:
        >>> build_brain_discriminator(image_size=64, filters=8).output_shape
        (None, 1)
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for channels, dropout in ((filters, 0.4), (2 * filters, 0.2), (4 * filters, 0.2)):
        x = layers.Conv2D(channels, kernel_size, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
        x = ByteDropout(dropout)(x)
    logits = layers.Dense(1, name="logit", dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def build_knee_generator(
    image_size=128,
    filters=16,
    latent_dim=256,
    generator_input_dim=4,
    kernel_size=3,
    initial_weights="he_normal",
):
    """Random vectors -> images: a narrow stack of feature maps, doubled in size five times, with no normalisation.

    As published for 128x128 knees with 16 filters: 0.3 million parameters. The output is linear, as in the published
    code; `generate_images` holds it to the range of a picture. How the published weights started is not known. With
    Keras' default weights all latents give nearly the same image; those of He et al. 2015 (arXiv 1502.01852), made
    for ReLU, lose less of the signal. Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels.
        filters: channels of the last hidden layer; the first has 4 times as many, those between 2 times.
        latent_dim: length of a random vector.
        generator_input_dim: width and height of the first feature maps in pixels; the number of blocks follows from it.
        kernel_size: width of the kernels of the blocks in pixels.
        initial_weights: one of `INITIAL_WEIGHTS` in settings.py.

    Returns:
        A `keras.Model`: float32 (images, latent_dim), standard normal -> float32
        (images, image_size, image_size, 1), about -1 (black) to 1 (white).

    Raises:
        ValueError: doubling generator_input_dim does not lead to image_size.

    Example:
        >>> build_knee_generator(image_size=64, filters=8).output_shape
        (None, 64, 64, 1)
    """
    doublings = count_doublings(generator_input_dim, image_size)
    latents = keras.Input((latent_dim,), name="latents")
    relu = {"activation": "relu", "kernel_initializer": initializer(initial_weights)}
    x = layers.Dense(generator_input_dim**2 * 4 * filters, **relu)(latents)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    for channels in [2 * filters] * (doublings - 1) + [filters]:
        x = layers.Conv2DTranspose(channels, kernel_size, strides=2, padding="same", **relu)(x)
    images = layers.Conv2D(1, 3, padding="same", name="images", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_knee_discriminator(image_size=128, filters=16):
    """Images -> one logit each: above 0 means 'looks real', below 0 'looks generated'.

    As published for 128x128 knees with 16 filters: 4.2 million parameters, nearly all of them in the first dense
    layer. Max pooling halves the image. Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the first layer; the third has 4 times as many.

    Returns:
        A `keras.Model`: float32 (images, image_size, image_size, 1), -1..1 -> float32 (images, 1), any real number.

    Example:
        >>> build_knee_discriminator(image_size=64, filters=8).output_shape
        (None, 1)
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for channels in (filters, 2 * filters, 4 * filters):
        x = layers.Conv2D(channels, 3, padding="same")(x)
        x = layers.MaxPooling2D()(x)  # before the activation: the same result with a quarter of the values to activate
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Dense(256)(layers.Flatten()(x))
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    logits = layers.Dense(1, name="logit", dtype="float32")(x)
    return keras.Model(images, logits, name="discriminator")


def build_dcgan_generator(
    image_size=64,
    filters=32,
    latent_dim=100,
    generator_input_dim=4,
    kernel_size=4,
    initial_weights="normal",
):
    """Random vectors -> images: the DCGAN paper's generator, which grows an image from 4x4.

    Radford et al. 2015, arXiv 1511.06434: every block doubles the size and halves the channels, with batch
    normalisation and ReLU, from weights of N(0, 0.02). A kernel of 4 tiles evenly at a stride of 2 and leaves no
    lattice (Odena et al. 2016, doi 10.23915/distill.00003). Built up in notebooks/05_improve_the_gan.ipynb.

    Args:
        image_size: width and height of the images in pixels.
        filters: channels of the last hidden layer; each layer before it has twice as many, up to 8 times.
        latent_dim: length of a random vector.
        generator_input_dim: width and height of the first feature maps in pixels.
        kernel_size: width of the kernels in pixels.
        initial_weights: one of `INITIAL_WEIGHTS` in settings.py.

    Returns:
        A `keras.Model`: float32 (images, latent_dim), standard normal -> float32
        (images, image_size, image_size, 1), -1 (black) to 1 (white).

    Raises:
        ValueError: doubling generator_input_dim does not lead to image_size.

    Example:
        >>> build_dcgan_generator(image_size=64, filters=8).output_shape
        (None, 64, 64, 1)
    """
    doublings = count_doublings(generator_input_dim, image_size)
    weights = {"kernel_initializer": initializer(initial_weights)}
    doubling = {"kernel_size": kernel_size, "strides": 2, "padding": "same", **weights}
    widest, *narrower = channels_from_image(doublings, filters)[::-1]
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * widest, use_bias=False, **weights)(latents)
    x = layers.ReLU()(batch_normalization()(x))  # before the reshape, so that every number varies over the batch
    x = layers.Reshape((generator_input_dim, generator_input_dim, widest))(x)
    for channels in narrower:
        x = layers.Conv2DTranspose(channels, use_bias=False, **doubling)(x)
        x = layers.ReLU()(batch_normalization()(x))
    images = layers.Conv2DTranspose(1, activation="tanh", name="images", dtype="float32", **doubling)(x)
    return keras.Model(latents, images, name="generator")


def build_dcgan_discriminator(image_size=64, filters=32, kernel_size=4, batch_norm=False, minibatch_std=True):
    """Images -> one logit each: above 0 means 'looks real', below 0 'looks generated'.

    The mirror image of `build_dcgan_generator`, halved until 4 to 7 pixels a side are left. The paper normalises
    batches here, too; without it, the answer to one image does not hang on the others in its batch, which the gradient
    penalty needs. Built up in notebooks/05_improve_the_gan.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the first layer; each layer after it has twice as many, up to 8 times.
        kernel_size: width of the kernels in pixels.
        batch_norm: whether batches are normalised after every convolution but the first, as in the paper.
        minibatch_std: whether one channel says how much the batch varies, which betrays a collapsed generator (Karras
            et al. 2018, arXiv 1710.10196).

    Returns:
        A `keras.Model`: float32 (images, image_size, image_size, 1), -1..1 -> float32 (images, 1), any real number.

    Example:
        >>> build_dcgan_discriminator(image_size=64, filters=8).output_shape
        (None, 1)
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for step, channels in enumerate(channels_from_image(count_halvings(image_size), filters)):
        x = layers.Conv2D(channels, kernel_size, strides=2, padding="same")(x)
        x = batch_normalization()(x) if batch_norm and step > 0 else x
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = MinibatchStandardDeviation()(x) if minibatch_std else x
    # A hidden layer, because a weighted sum alone cannot say "too much alike" as well as "too varied".
    x = layers.Dense(8 * filters)(layers.Flatten()(x))
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    logits = layers.Dense(1, name="logit", dtype="float32")(x)
    return keras.Model(images, logits, name="discriminator")


def count_replicas():
    """How many devices share the batch that is being computed; 1 outside a training step."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1


def own_part(values):
    """This device's part of what was drawn for the whole batch, along the first axis.

    Every device draws the same numbers for all, so that several devices train as one would.
    """
    if count_replicas() == 1:
        return values
    size = tf.shape(values)[0] // count_replicas()
    start = size * tf.distribute.get_replica_context().replica_id_in_sync_group
    return values[start : start + size]


def mean_over_batch(features):
    """Mean over the images of all devices, each of which has as many: (images, ...) -> (...)."""
    return tf.distribute.get_replica_context().all_reduce("MEAN", tf.reduce_mean(features, axis=0))


def batch_normalization():
    """A layer that normalises over the whole batch, also where several devices share it."""
    return layers.BatchNormalization(synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1)


def channels_from_image(layer_count, filters):
    """Channels of each layer, the one next to the image first: filters doubled at each step, up to 8 times."""
    return [filters * 2 ** min(step, 3) for step in range(layer_count)]


def count_halvings(image_size):
    """How many times image_size can be halved until the maps have 4 to 7 pixels a side, or an odd number."""
    halvings = 0
    while image_size >= 8 and image_size % 2 == 0:
        image_size //= 2
        halvings += 1
    return halvings


@keras.saving.register_keras_serializable("gan_utils")
class ByteDropout(layers.Dropout):
    """Dropout (Srivastava et al. 2014, jmlr.org/papers/v15/srivastava14a) that draws one random byte for each value.

    Keras draws four, and its dropout was a seventh of a training step of the brains at 128 pixels. The rate is rounded
    to 1/256; what is kept is scaled up by exactly as much as is lost.
    """

    def call(self, inputs, training=False):
        dropped = round(256 * self.rate)
        if not training or dropped == 0:
            return inputs
        shape, values = tf.shape(inputs), tf.size(inputs) * count_replicas()
        words = tf.random.stateless_uniform(
            [(values + 3) // 4], tf.cast(self.seed_generator.next(), "int32"), None, None, "int32"
        )
        random_bytes = own_part(tf.reshape(tf.bitcast(words, "uint8"), [-1])[:values])
        kept = tf.cast(tf.reshape(random_bytes >= dropped, shape), inputs.dtype)
        return inputs * (kept * (256 / (256 - dropped)))


@keras.saving.register_keras_serializable("gan_utils")
class MinibatchStandardDeviation(layers.Layer):
    """Adds a channel with one number: the standard deviation over the batch, averaged over all features.

    Karras et al. 2018, arXiv 1710.10196. (images, height, width, channels) -> (images, height, width, channels + 1).
    """

    def call(self, features):
        if count_replicas() == 1:
            variance = keras.ops.var(features, axis=0)
        else:
            wide = tf.cast(features, "float32")
            variance = tf.cast(mean_over_batch((wide - mean_over_batch(wide)) ** 2), features.dtype)
        spread = keras.ops.sqrt(variance + 1e-8)
        channel = keras.ops.mean(spread) * keras.ops.ones_like(features[..., :1])
        return keras.ops.concatenate([features, channel], axis=-1)
