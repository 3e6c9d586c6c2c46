"""Loading 9,664 PNG files of 256x256, as many as OASIS has to train on."""

from pathlib import Path

import numpy as np

NUMBER, SIZE = 9664, 256
SLICES = 32  # of a subject, as in OASIS


def paths(folder):
    return sorted(Path(folder).glob("*.png"))


def make_pictures(folder, number=NUMBER):
    """Pictures that weigh about as much as slices: smooth with fine grain inside an ellipse, black around."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    folder = Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    inside = rows**2 / 0.5 + columns**2 / 0.7 < 1
    smooth = gaussian_filter(rng.standard_normal((64, SIZE, SIZE)), (0, 2, 2))
    for place in range(number):
        picture = 110 + 500 * np.roll(smooth[place % 64], place, axis=0) + rng.normal(0, 4, (SIZE, SIZE))
        Image.fromarray((np.clip(picture, 0, 255) * inside).astype(np.uint8)).save(folder / f"{place:05d}.png")


def nothing():
    """What a process with the same imports takes, so that its memory can be told from that of the images."""
    import gan_utils.data  # noqa: F401

    return lambda: None, {}


def by_gan_utils(folder):
    """Its checks for label maps included."""
    from gan_utils.data import load_split
    from gan_utils.settings import choose_settings
    from gan_utils.slices import SliceName

    settings, files = choose_settings("brain", "full"), {}
    for place, path in enumerate(paths(folder)):
        subject, number = divmod(place, SLICES)
        files[SliceName(subject, scan="", number=number, side="")] = path
    return lambda: load_split(files, (SIZE, SIZE), settings, "Loading"), {"images": len(files)}


def as_published(folder):
    """PIL in a loop, each picture divided by 255 in float64, the list made into an array."""
    from PIL import Image

    files = paths(folder)
    return lambda: np.array([np.asarray(Image.open(path)) / 255.0 for path in files]), {"images": len(files)}
