"""Memory of a whole run on 20,064 slices of 256x256: loading, callbacks and a few steps of the improved recipe."""

import os
from pathlib import Path

TRAIN, HELD_OUT = 189, 10  # people, 96 slices each, to train on and in either other split
SLICES = 96


def make_people(folder):
    """People in the layout of OASIS, whose slices are 960 pictures under many names: no picture is in two splits."""
    from benchmarks.loading import make_pictures, paths
    from gan_utils.layouts import OASIS_SPLITS

    folder = Path(folder)
    make_pictures(folder / "pictures", 3 * HELD_OUT * SLICES)
    pictures = paths(folder / "pictures")
    first, slices = 1, folder / "keras_png_slices_data"
    for split, people in zip(OASIS_SPLITS.values(), (TRAIN, HELD_OUT, HELD_OUT), strict=True):
        (slices / split).mkdir(parents=True)
        some, pictures = pictures[: HELD_OUT * SLICES], pictures[HELD_OUT * SLICES :]
        for number in range(people * SLICES):
            case, place = divmod(number, SLICES)
            os.link(some[number % len(some)], slices / split / f"case_{first + case:03d}_slice_{place}.nii.png")
        first += people
    return str(slices)


def training(data, images_on_disk, folder):
    """A whole run of one epoch of ten steps."""
    from gan_utils.settings import choose_settings
    from gan_utils.train import train

    changes = {"images_on_disk": images_on_disk, "epochs": 1, "steps_per_epoch": 10}
    settings = choose_settings("brain", "full", "improved", data, output=f"{folder}/run-{images_on_disk}", **changes)
    return lambda: train(settings), {}
