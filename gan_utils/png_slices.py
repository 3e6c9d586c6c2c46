"""One PNG slice -> a square 8-bit picture; what must not be trained on is refused by name."""

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gan_utils.layouts import DataError

LARGEST_SIDE = 4096  # pixels; a small file may claim to be so large a picture that it fills the memory
ANIMATION = re.compile(rb"\0\0..acTL", re.DOTALL)  # length and name of the part that makes a PNG an animated one
LABEL_VALUES = 8  # grey values: a label map has no more, 4 in OASIS; a scan has far more


def load_image(path, size, image_size, resize="pad"):
    """uint8 (image_size, image_size) of one PNG."""
    image = opened_image(path)
    if image.size != size:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, the first image {size[0]}x{size[1]}. "
            "All slices of a data set must have one size."
        )
    return np.asarray(resized(grey(image, path), image_size, resize))


def grey(image, path):
    """One 8-bit channel: the knees come as three equal ones."""
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    if image.mode != "L":
        raise DataError(
            f"{path} is not an 8-bit grey image (its mode is {image.mode}). Convert it to 8-bit grey, or move it "
            "elsewhere if it is no MRI slice."
        )
    return image


def resized(image, image_size, resize="pad"):
    """A square picture with image_size pixels a side; see notebooks/01_explore_data.ipynb.

    Args:
        image: `PIL.Image.Image`, grey, at least as large as image_size on its longer side.
        image_size: pixels a side.
        resize: "pad" adds black bars to the shorter side, so that shapes stay true. "squash" scales both sides to
            image_size, as the published knees were: 260x228 to 128x128 makes them 14 % taller.

    Returns:
        `PIL.Image.Image`, filtered so that fine texture does not turn into false patterns (aliasing).
    """
    if resize == "pad" and image.width != image.height:
        side = max(image.size)
        square = Image.new("L", (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    if image.size == (image_size, image_size):
        return image
    # A box takes the plain mean where each new pixel covers a whole number of old ones.
    whole = all(length % image_size == 0 for length in image.size)
    return image.resize((image_size, image_size), Image.Resampling.BOX if whole else Image.Resampling.LANCZOS)


def opened_image(path):
    """The decoded PNG image at `path`; whatever goes wrong with the file becomes a DataError that names it."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise OSError("it is not a file, or a link that leads nowhere")
        with open(path, "rb", buffering=2**16) as file:
            # Looked for before Pillow does: it only warns of a broken animation.
            if ANIMATION.search(file.peek()):
                raise ValueError("it is an animation")
            # Not Image.open: it takes other formats, too, and only warns of pictures that are too large.
            image = PngImageFile(file)
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{image.width}x{image.height} pixels are too many, at most {LARGEST_SIDE} a side")
            image.load()
        return image
    except Exception as error:  # decoders raise nearly anything for bytes that are not theirs
        raise DataError(
            f"{path} cannot be read as a PNG image ({error}). Copy it again from the source as PNG, or remove it."
        ) from error


def check_size(path, size, image_size):
    if max(size) < image_size:
        raise DataError(
            f"{path} has {size[0]}x{size[1]} pixels; expected at least {image_size} on the longer side. Choose a "
            "smaller image_size."
        )


def check_label_maps(files):
    """Refuse {Slice: path} with a scan of few grey values: a label map that bears the names of slices."""
    scans = groupby(files, key=lambda name: (name.person, name.scan))
    with ThreadPoolExecutor() as pool:
        list(pool.map(check_scan, [[files[name] for name in names] for _, names in scans]))


def check_scan(paths):
    """Refuse the slices of a scan that have few grey values all together; a scan that is black all over may pass."""
    middle = len(paths) // 2
    values = set()
    for path in (*paths[middle:], *paths[:middle]):  # the first one is enough, unless it is nearly black
        values.update(np.flatnonzero(grey(opened_image(path), path).histogram()).tolist())
        if len(values) > LABEL_VALUES:
            return
    if len(values) > 1:
        raise DataError(
            f"{paths[middle]} looks like a label map: all slices of its scan have {len(values)} grey values together. "
            "Move label maps elsewhere, they must not be trained on."
        )
