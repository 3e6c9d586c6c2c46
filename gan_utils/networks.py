"""Pairs of networks, two published and one improved: one makes images, the other tells them from real ones.

A generator turns standard normal latents, (images, latent_dim), into images, (images, image_size, image_size, 1), -1
(black) to 1 (white). A discriminator turns images into logits, (images, 1), above 0 for "real". The builders take

    image_size           width and height of the images, in pixels; for discriminators a multiple of 8
    filters              channels of the layer next to the images
    latent_dim           length of a random vector
    generator_input_dim  width and height of the generator's first feature maps; doubling it must lead to image_size
    kernel_size          width of the kernels with stride 2, in pixels
    initial_weights      of the generator: one of INITIAL_WEIGHTS in settings.py
"""

import json
import re
import zipfile
from contextlib import suppress

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gan_utils import DataError
from gan_utils.settings import count_doublings

# Keys that Keras 3.8 does not know, at their defaults. Others stay in the file: a later Keras may have other defaults.
NEWER = dict.fromkeys(("input_axes", "output_axes", "output_padding", "quantization_config", "renorm_clipping"))
NEWER |= {"ragged": False, "renorm": False, "renorm_momentum": 0.99}
AT_ONCE = 64  # images: more of them need more memory and are made no faster
# Other projects may want other ones, by ~/.keras/keras.json or in this process; `Settings.precision` changes the last.
keras.config.set_image_data_format("channels_last")
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("float32")


def build_pair(settings):
    """The untrained (generator, discriminator) that the settings describe, in Keras' current precision."""
    s = settings
    sizes = s.image_size, s.filters
    generator_args = s.latent_dim, s.generator_input_dim, s.kernel_size, s.initial_weights
    if s.networks == "brain":
        return build_brain_generator(*sizes, *generator_args), build_brain_discriminator(*sizes, s.kernel_size)
    if s.networks == "knee":
        return build_knee_generator(*sizes, *generator_args), build_knee_discriminator(*sizes)
    discriminator = build_dcgan_discriminator(*sizes, s.kernel_size, s.minibatch_std)
    return build_dcgan_generator(*sizes, *generator_args), discriminator


def fixed_latents(settings, images=16):
    """float32 (images, latent_dim), the same for a seed: pictures made from them show training and not luck."""
    return np.random.default_rng(settings.seed).standard_normal((images, settings.latent_dim), dtype=np.float32)


def generate_images(generator, latents):
    """Images of a generator, clipped to the range of a picture: that of the knees ends in a plain sum.

    Args:
        generator: `keras.Model`, such as `load_network(folder / "generator.keras")`.
        latents: float (images, latent_dim), standard normal.

    Returns:
        float32 (images, image_size, image_size, 1), -1 (black) to 1 (white).
    """
    starts = range(0, len(latents), AT_ONCE)
    images = [generator(latents[start : start + AT_ONCE], training=False) for start in starts]
    return np.clip(np.concatenate(images), -1, 1)


def save_network(network, path):
    """Save a network as a .keras file that Keras 3.8 can load, and every later version."""
    network.save(path)
    with zipfile.ZipFile(path) as saved:
        files = {name: saved.read(name) for name in saved.namelist()}
    known = json.loads(
        files["config.json"], object_pairs_hook=lambda pairs: dict(p for p in pairs if p not in NEWER.items())
    )
    with zipfile.ZipFile(path, "w") as rewritten:
        for name, content in {**files, "config.json": json.dumps(known)}.items():
            rewritten.writestr(name, content)


def load_network(path):
    """The network in a .keras file, or `DataError` where it is missing, broken or of another version of Keras."""
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        fault = f"It is missing or broken: copy it, or train again ({str(error)[:99]})."
        with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(path) as saved:
            version = json.loads(saved.read("metadata.json"))["keras_version"]
            if version != keras.__version__:
                fault = f"Keras {version} wrote it: pip install keras=={version}, or train again."
        if unknown := re.search(r"Could not locate (?:class|function) '(\w+)'", str(error)):
            fault = f"{unknown[1]} is not defined here: put it into a file of your own, and import that first."
        raise DataError(f"{path} cannot be opened by Keras {keras.__version__}. {fault}") from error


def build_brain_generator(
    image_size=256, filters=64, latent_dim=100, generator_input_dim=32, kernel_size=3, initial_weights="glorot_uniform"
):
    """As published for brains: a wide stack of feature maps is doubled in size, with batch normalisation throughout.

    At 256x256 with 64 filters 27.6 million parameters, 26 million of them in the dense layer. The idea is DCGAN's
    (Radford et al. 2015, arXiv 1511.06434), the 3x3 kernels and LeakyReLU are not.

    Example:
        >>> build_brain_generator(image_size=64, filters=8, generator_input_dim=8).output_shape
        (None, 64, 64, 1)
    """
    doublings = count_doublings(generator_input_dim, image_size)
    weights = {"kernel_initializer": initializer(initial_weights), "use_bias": False}
    doubling = {"kernel_size": kernel_size, "strides": 2, "padding": "same", **weights}
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * 4 * filters, **weights)(latents)
    x = layers.BatchNormalization()(x)
    x = layers.LeakyReLU(negative_slope=0.3)(x)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    hidden = [2 * filters] * (doublings - 2) + [filters] * (doublings > 1)  # the last doubling makes the image
    for channels in hidden:
        x = layers.Conv2DTranspose(channels, **doubling)(x)
        x = layers.BatchNormalization()(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
    images = layers.Conv2DTranspose(1, **doubling, activation="tanh", name="images", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_brain_discriminator(image_size=256, filters=64, kernel_size=3):
    """As published for brains, 0.63 million parameters at 256x256 with 64 filters.

    Convolutions of stride 2 halve the image, dropout keeps the network from learning the training images by heart.
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for channels, dropout in ((filters, 0.4), (2 * filters, 0.2), (4 * filters, 0.2)):
        x = layers.Conv2D(channels, kernel_size, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.3)(x)
        x = layers.Dropout(dropout)(x)
    logits = layers.Dense(1, name="logit", dtype="float32")(layers.Flatten()(x))
    return keras.Model(images, logits, name="discriminator")


def build_knee_generator(
    image_size=128, filters=16, latent_dim=256, generator_input_dim=4, kernel_size=3, initial_weights="he_normal"
):
    """As published for knees: a narrow stack of feature maps is doubled in size, with no normalisation, linear output.

    At 128x128 with 16 filters 0.3 million parameters. How the published weights started is not known. With Keras'
    default weights all latents give nearly the same image; those of He et al. 2015 (arXiv 1502.01852), made for ReLU,
    lose less of the signal.
    """
    doublings = count_doublings(generator_input_dim, image_size)
    relu = {"activation": "relu", "kernel_initializer": initializer(initial_weights)}
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * 4 * filters, **relu)(latents)
    x = layers.Reshape((generator_input_dim, generator_input_dim, 4 * filters))(x)
    for channels in [2 * filters] * (doublings - 1) + [filters]:
        x = layers.Conv2DTranspose(channels, kernel_size, strides=2, padding="same", **relu)(x)
    images = layers.Conv2D(1, 3, padding="same", name="images", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def build_knee_discriminator(image_size=128, filters=16):
    """As published for knees, 4.2 million parameters at 128x128 with 16 filters, nearly all in one dense layer.

    Max pooling halves the image.
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
    image_size=64, filters=32, latent_dim=100, generator_input_dim=4, kernel_size=4, initial_weights="normal"
):
    """The DCGAN paper's generator (Radford et al. 2015, arXiv 1511.06434), which grows an image from 4x4.

    Every block doubles the size and, below 8 times `filters`, halves the channels, with batch normalisation, from
    weights of N(0, 0.02). LeakyReLU in place of the paper's ReLU: at 256x256 whole areas of ReLU were off, and grey.
    A kernel of 4 tiles evenly at a stride of 2 and leaves no lattice (Odena et al. 2016, doi 10.23915/distill.00003).
    """
    doublings = count_doublings(generator_input_dim, image_size)
    weights = {"kernel_initializer": initializer(initial_weights)}
    doubling = {"kernel_size": kernel_size, "strides": 2, "padding": "same", **weights}
    widest, *narrower = channels_from_image(doublings, filters)[::-1]
    latents = keras.Input((latent_dim,), name="latents")
    x = layers.Dense(generator_input_dim**2 * widest, use_bias=False, **weights)(latents)
    x = layers.BatchNormalization()(x)  # before the reshape, so that numbers vary over the batch
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Reshape((generator_input_dim, generator_input_dim, widest))(x)
    for channels in narrower:
        x = layers.Conv2DTranspose(channels, use_bias=False, **doubling)(x)
        x = layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(x))
    x = without_chessboard(layers.Conv2DTranspose(1, dtype="float32", **doubling)(x))
    images = layers.Activation("tanh", name="images", dtype="float32")(x)
    return keras.Model(latents, images, name="generator")


def without_chessboard(images):
    """Images without the finest chessboard, of single pixels, which strides of 2 tend to leave.

    A fixed convolution. Its response falls smoothly to 0 at that frequency, and is 1 to 1.15 at low ones.
    """
    fixed = layers.Conv2D(1, 2, padding="same", use_bias=False, trainable=False, dtype="float32", name="no_chessboard")
    fixed.build(images.shape)
    fixed.set_weights([np.reshape([3, 1, 1, -1], (2, 2, 1, 1)) / 4])
    return fixed(images)


def build_dcgan_discriminator(image_size=64, filters=32, kernel_size=4, minibatch_std=True):
    """The mirror image of `build_dcgan_generator`, halved until 4 to 8 pixels a side are left.

    No batch normalisation, unlike in the paper: it makes every feature of an image depend on the whole batch, and so
    its gradient, which the penalties measure. (`MinibatchStandardDeviation`, by `minibatch_std`, does so weakly.)
    """
    images = keras.Input((image_size, image_size, 1), name="images")
    x = images
    for channels in channels_from_image(image_size.bit_length() - 3, filters):
        x = layers.Conv2D(channels, kernel_size, strides=2, padding="same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = MinibatchStandardDeviation()(x) if minibatch_std else x
    # A hidden layer, because a weighted sum alone cannot say "too much alike" as well as "too varied".
    x = layers.Dense(8 * filters)(layers.Flatten()(x))
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    logits = layers.Dense(1, name="logit", dtype="float32")(x)
    return keras.Model(images, logits, name="discriminator")


def layers_of(network):
    """All layers, also those of networks within the network."""
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)


def initializer(name):
    """What Keras calls one of INITIAL_WEIGHTS."""
    return keras.initializers.RandomNormal(stddev=0.02) if name == "normal" else name


def channels_from_image(layer_count, filters):
    """Channels of each layer, the one next to the image first: doubled from layer to layer, up to 8 times."""
    return [filters * 2 ** min(layer, 3) for layer in range(layer_count)]


@keras.saving.register_keras_serializable("gan_utils")
class MinibatchStandardDeviation(layers.Layer):
    """Adds a channel with one number: the standard deviation over the batch, averaged over all features.

    Karras et al. 2018, arXiv 1710.10196. (images, height, width, channels) -> (images, height, width, channels + 1).
    Several devices each take that of their own images.
    """

    def call(self, features):
        spread = keras.ops.sqrt(keras.ops.var(features, axis=0) + 1e-8)
        channel = keras.ops.mean(spread) * keras.ops.ones_like(features[..., :1])
        return keras.ops.concatenate([features, channel], axis=-1)


def translated(images, share, seed):
    """Images moved by whole pixels, each by up to `share` of its size in either direction, with black moved in.

    Zhao et al. 2020, arXiv 2006.10738: what the discriminator sees of real and generated images is shifted alike, so
    that a small set of real images is harder to learn by heart.

    Args:
        images: float (images, size, size, 1), -1..1.
        share: 0 to 1.
        seed: a `keras.random.SeedGenerator`.
    """
    number, size = tf.shape(images)[0], images.shape[1]
    most = int(share * size)
    padded = tf.pad(images, [[0, 0], [most, most], [most, most], [0, 0]], constant_values=-1.0)
    first = keras.random.randint((2, number), 0, 2 * most + 1, seed=seed)
    rows, columns = tf.unstack(first[..., None] + tf.range(size))
    moved = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(moved, columns, axis=2, batch_dims=1)
