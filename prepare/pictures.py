"""Plain pictures (PNG) as slices of a published layout: of any size and name, and of what, only their owner knows."""

import numpy as np
from PIL import Image, ImageOps

from gan_utils.data import PICTURE_MARK
from gan_utils.slices import grey_channel, open_image


def read_picture(path, size):
    """uint8 (1, height, width) of an 8-bit grey PNG, made to fit into `size` (width, height) between black bars.

    Raises:
        DataError: it is unreadable, coloured or of more than 8 bits.
    """
    picture = grey_channel(open_image(path), path)
    return np.asarray(ImageOps.pad(picture, size, Image.Resampling.LANCZOS, color=0))[None]


def mark_pictures(folder):
    """Note beside the slices that they were pictures, so that they are not called MRI."""
    text = "Made from pictures by `make slices`: what they show, and in which size, is not known.\n"
    (folder / PICTURE_MARK).write_text(text, encoding="utf-8")
