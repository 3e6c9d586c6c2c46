"""The two networks: a generator that draws images and a discriminator that tells them from real ones."""

import keras
from keras import layers

DOUBLINGS = 3  # each of the generator's three stride-2 layers doubles width and height


def build_networks(settings):
    """The generator and the discriminator of an experiment, untrained.

    Args:
        settings: `Settings`; uses image_size, filters and latent_dim.

    Returns:
        (generator, discriminator), two `keras.Model`.
    """
    generator = build_generator(settings.image_size, settings.filters, settings.latent_dim)
    discriminator = build_discriminator(settings.image_size, settings.filters)
    return generator, discriminator


def build_generator(image_size=256, filters=64, latent_dim=100):
    """Random vectors -> images: a small stack of feature maps, doubled in size three times.

    As published for 256x256 brains with 64 filters: 27.6 million parameters, 26 million of them in the dense
    layer. The idea is DCGAN's (Radford et al. 2015, arXiv 1511.06434), the 3x3 kernels and LeakyReLU are not.
    Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the last hidden layer; the first has 4 times as many.
        latent_dim: length of a random vector.

    Returns:
        A `keras.Model`: float32 (images, latent_dim), standard normal -> float32
        (images, image_size, image_size, 1), -1 (black) to 1 (white).

    Example:
        >>> build_generator(image_size=64, filters=8).output_shape
        (None, 64, 64, 1)
    """
    first_size = image_size // 2**DOUBLINGS
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(first_size * first_size * 4 * filters, use_bias=False)(latents)
    x = layers.BatchNormalization()(x)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    x = layers.Reshape((first_size, first_size, 4 * filters))(x)
    for channels in (2 * filters, filters):
        x = layers.Conv2DTranspose(channels, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
    images = layers.Conv2DTranspose(1, 3, strides=2, padding="same", use_bias=False, activation="tanh", name="images")(
        x
    )
    return keras.Model(latents, images, name="generator")


def build_discriminator(image_size=256, filters=64):
    """Images -> one logit each: above 0 means 'looks real', below 0 'looks generated'.

    As published for 256x256 brains with 64 filters: 0.63 million parameters. Dropout keeps it from learning the
    training images by heart. Built up in notebooks/02_define_models.ipynb.

    Args:
        image_size: width and height of the images in pixels, a multiple of 8.
        filters: channels of the first layer; the last has 4 times as many.

    Returns:
        A `keras.Model`: float32 (images, image_size, image_size, 1), -1..1 -> float32 (images, 1), any real number.

    Example:
        >>> build_discriminator(image_size=64, filters=8).output_shape
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
