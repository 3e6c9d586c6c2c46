"""What lies between the images of a generator: walks through its latents, as GIFs."""

import imageio.v3 as imageio
import numpy as np

from gan_utils.figures import few_grey_levels, image_grid
from gan_utils.networks import generate_images
from gan_utils.runs import written_beside


def walk_latents(corners, steps):
    """Latents on a closed walk from corner to corner and back to the first.

    Each leg turns at constant speed from one direction to the next and keeps to lengths between those of its ends
    (spherical interpolation, White 2016, arXiv 1609.04468): the middle of a straight line would be shorter than nearly
    all latents that the generator was trained with. Built up in notebooks/04_evaluate.ipynb.

    Args:
        corners: float (corners, ..., latent_dim); in the middle there may be several walkers.
        steps: latents from one corner to the next.

    Returns:
        float32 (corners * steps, ..., latent_dim).
    """
    shares = np.arange(steps) / steps
    legs = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    return np.concatenate([[turned(*leg, share) for share in shares] for leg in legs]).astype(np.float32)


def turned(first, second, share):
    """A share of the way from one latent to another, both (..., latent_dim), around the origin."""
    lengths = [np.linalg.norm(latents, axis=-1, keepdims=True) for latents in (first, second)]
    directions = first / lengths[0], second / lengths[1]
    angle = np.arccos(np.clip((directions[0] * directions[1]).sum(axis=-1, keepdims=True), -1, 1))
    weights = np.sinc((1 - share) * angle / np.pi) * (1 - share), np.sinc(share * angle / np.pi) * share
    direction = (weights[0] * directions[0] + weights[1] * directions[1]) / np.sinc(angle / np.pi)
    return direction * ((1 - share) * lengths[0] + share * lengths[1])


def save_latent_walk(folder, generator, latents, milliseconds=120):
    """What a generator makes of latents on a walk, as `latent_walk.gif` without an end.

    Args:
        folder: the run's folder.
        generator: `keras.Model`.
        latents: float (frames, walkers, latent_dim), from `walk_latents`.
        milliseconds: how long each frame is shown.

    Returns:
        The path of the GIF, at most PICTURE_WIDTH pixels wide.
    """
    frames = [few_grey_levels(image_grid(generate_images(generator, each))) for each in latents]
    path = folder / "latent_walk.gif"
    with written_beside(path) as beside:
        imageio.imwrite(beside, frames, duration=milliseconds, loop=0)
    return path
