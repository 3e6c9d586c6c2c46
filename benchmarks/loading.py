"""Loading 9,664 PNG files of 256x256, as many as OASIS has to train on."""

from pathlib import Path

import numpy as np

NUMBER, SIZE = 9664, 256


def paths(folder):
    return sorted(Path(folder).glob("*.png"))


def make_pictures(folder, number=NUMBER):
    """Pictures that weigh about as much as slices: smooth with fine grain inside an ellipse, black around."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    folder = Path(folder)
    folder.mkdir(parents=True)
    draw = np.random.default_rng(1)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    inside = rows**2 / 0.5 + columns**2 / 0.7 < 1
    smooth = gaussian_filter(draw.standard_normal((64, SIZE, SIZE)), (0, 2, 2))
    for place in range(number):
        picture = 110 + 500 * np.roll(smooth[place % 64], place, axis=0) + draw.normal(0, 4, (SIZE, SIZE))
        Image.fromarray((np.clip(picture, 0, 255) * inside).astype(np.uint8)).save(folder / f"{place:05d}.png")


def nothing():
    """What a process with the same imports takes, so that its memory can be told from that of the images."""
    import gan_utils.datasets  # noqa: F401

    return lambda: None, {}


def by_gan_utils(folder):
    from gan_utils.datasets import load_images
    from gan_utils.settings import choose_settings

    settings, files = choose_settings("brain", "full"), paths(folder)
    return lambda: load_images(files, (SIZE, SIZE), settings), {"images": len(files)}


def as_published(folder):
    """PIL in a loop, each picture divided by 255 in float64, the list made into an array."""
    from PIL import Image

    files = paths(folder)
    return lambda: np.array([np.asarray(Image.open(path)) / 255.0 for path in files]), {"images": len(files)}
