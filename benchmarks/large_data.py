"""Memory of a whole run on 20,064 slices of 256x256: loading, callbacks and a few steps of the improved recipe."""

import os
from pathlib import Path

TRAIN, HELD_OUT = 189, 10  # subjects, 96 slices each, to train on and in either other split
SLICES = 96


def make_subjects(folder):
    """Subjects in the layout of OASIS, whose slices are 960 pictures under many names: no picture is in two splits."""
    from benchmarks.loading import make_pictures, paths
    from gan_utils.data import DATASETS

    folder = Path(folder)
    make_pictures(folder / "pictures", 3 * HELD_OUT * SLICES)
    pictures = paths(folder / "pictures")
    first, slices = 1, folder / "keras_png_slices_data"
    splits = DATASETS["brain"].split_folders.values()
    for split, subjects in zip(splits, (TRAIN, HELD_OUT, HELD_OUT), strict=True):
        (slices / split).mkdir(parents=True)
        some, pictures = pictures[: HELD_OUT * SLICES], pictures[HELD_OUT * SLICES :]
        for number in range(subjects * SLICES):
            case, place = divmod(number, SLICES)
            os.link(some[number % len(some)], slices / split / f"case_{first + case:03d}_slice_{place}.nii.png")
        first += subjects
    return str(slices)


def training(data, folder):
    """A whole run of one epoch of ten steps."""
    from gan_utils.settings import choose_settings
    from scripts.train import train

    changes = {"output": f"{folder}/run", "epochs": 1, "steps_per_epoch": 10}
    settings = choose_settings("brain", "full", "improved", data, **changes)
    return lambda: train(settings), {}
