import numpy as np
import pytest
from PIL import Image

from gan_utils.datasets import OASIS_SPLITS


@pytest.fixture
def oasis_folder(tmp_path):
    """A made-up OASIS folder: two slices of six people in three splits, 40x40 pixels of noise."""
    return make_oasis_folder(tmp_path / "keras_png_slices_data")


def make_oasis_folder(folder, size=40, people=((1, 2, 10), (402, 403), (441,)), slices=(0, 2, 10)):
    draw = np.random.default_rng(0)
    for name, cases in zip(OASIS_SPLITS.values(), people, strict=True):
        (folder / name).mkdir(parents=True)
        for case in cases:
            for number in slices:
                image = draw.integers(0, 256, (size, size), dtype=np.uint8)
                Image.fromarray(image).save(folder / name / f"case_{case:03d}_slice_{number}.nii.png")
    return folder
