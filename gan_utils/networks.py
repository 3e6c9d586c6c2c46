"""The two published pairs of networks: a generator makes images, a discriminator tells them from real ones."""

import keras
import numpy as np
from keras import layers

from gan_utils.settings import count_doublings


def build_networks(settings):
    """The generator and the discriminator of an experiment, untrained.

    Args:
        settings: `Settings`; uses experiment, image_size, generator_input_dim, filters and latent_dim.

    Returns:
        (generator, discriminator), two `keras.Model`.
    """
    build_generator, build_discriminator = {
        "brain": (build_brain_generator, build_brain_discriminator),
        "knee": (build_knee_generator, build_knee_discriminator),
    }[settings.experiment]
    size = {"image_size": settings.image_size, "filters": settings.filters}
    generator = build_generator(
        **size, latent_dim=settings.latent_dim, generator_input_dim=settings.generator_input_dim
    )
    return generator, build_discriminator(**size)


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


def build_brain_generator(image_size=256, filters=64, latent_dim=100, generator_input_dim=32):
    """Random vectors -> images: a wide stack of feature maps, doubled in size, with batch normalisation throughout.

    As published for 256x256 brains with 64 filters: 27.6 million parameters, 26 million of them in the dense
    layer. The idea is DCGAN's (Radford et al. 2015, arXiv 1511.06434), the 3x3 kernels and LeakyReLU are not.
    Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels.
        filters: channels of the last hidden layer; the first has 4 times as many.
        latent_dim: length of a random vector.
        generator_input_dim: width and height of the first feature maps in pixels.

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
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * 4 * filters, use_bias=False)(latents)
    x = layers.BatchNormalization()(x)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    hidden = [2 * filters] * max(doublings - 2, 0) + [filters] * (doublings > 1)  # the last doubling makes the image
    for channels in hidden:
        x = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
    images = layers.Conv2DTranspose(1, 3, strides=2, padding="same", use_bias=False, activation="tanh", name="images")(
        x
    )
    return keras.Model(latents, images, name="generator")


def build_brain_discriminator(image_size=256, filters=64):
    """Images -> one logit each: above 0 means 'looks real', below 0 'looks generated'.

    As published for 256x256 brains with 64 filters: 0.63 million parameters. Convolutions of stride 2 halve the
    image, dropout keeps it from learning the training images by heart. Built up in
    notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the first layer; the last has 4 times as many.

    Returns:
        A `keras.Model`: float32 (images, image_size, image_size, 1), -1..1 -> float32 (images, 1), any real number.

    Example:
        >>> build_brain_discriminator(image_size=64, filters=8).output_shape
        (None, 1)
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for channels, dropout in ((filters, 0.4), (2 * filters, 0.2), (4 * filters, 0.2)):
        x = layers.Conv2D(channels, 3, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
        x = layers.Dropout(dropout)(x)
    logits = layers.Dense(1, name="logit")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def build_knee_generator(image_size=128, filters=16, latent_dim=256, generator_input_dim=4):
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
    relu = {"activation": "relu", "kernel_initializer": "he_normal"}
    x = layers.Dense(generator_input_dim**2 * 4 * filters, **relu)(latents)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    for channels in [2 * filters] * (doublings - 1) + [filters]:
        x = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", **relu)(x)
    images = layers.Conv2D(1, 3, padding="same", name="images")(x)
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
    logits = layers.Dense(1, name="logit")(x)
    return keras.Model(images, logits, name="discriminator")
