"""Data sets that do not fit into memory."""

import os
import subprocess
import sys

import numpy as np
import psutil
import pytest
from PIL import Image

from conftest import make_oasis_folder
from gan_utils import datasets
from gan_utils.datasets import load_slices, training_batches
from gan_utils.layouts import OASIS_SPLITS, DataError
from gan_utils.settings import choose_settings

TRAINING = """
import resource, sys
import keras, psutil
from gan_utils.datasets import load_slices, training_batches
from gan_utils.dcgan import build_gan
from gan_utils.settings import choose_settings

settings = choose_settings(
    "brain", "smoke", data=sys.argv[1], image_size=256, generator_input_dim=32, images_on_disk=sys.argv[2] == "on disk"
)
gan = build_gan(settings)
gan.train_on_batch(keras.ops.zeros((settings.batch_size, 256, 256, 1)))
# What may yet be asked of the system; maps of files do not count.
used = psutil.Process().memory_info().data
resource.setrlimit(resource.RLIMIT_DATA, (used + 200_000_000,) * 2)
data = load_slices(settings)
print(type(data.train.images).__name__, data.train.images.nbytes)
gan.fit(training_batches(data.train.images, settings), epochs=2, steps_per_epoch=4, shuffle=False, verbose=0)
print("trained")
"""


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory):
    """400 MB of slices, all of them one file with many names."""
    folder = make_oasis_folder(tmp_path_factory.mktemp("large") / "slices", size=256, slices=range(4))
    train = folder / OASIS_SPLITS["train"]
    slope = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    Image.fromarray(slope).save(folder / "slope.png")
    for case in range(100, 160):
        for number in range(100):
            os.link(folder / "slope.png", train / f"case_{case}_slice_{number}.nii.png")
    return folder


def train_with_little_memory(folder, where):
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, folder, where]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_images_on_disk_train_where_memory_is_too_small_for_them(large_folder):
    ended = train_with_little_memory(large_folder, "on disk")
    assert ended.returncode == 0, ended.stderr
    kind, size, trained = ended.stdout.split()
    assert (kind, trained) == ("memmap", "trained")
    assert int(size) > 390_000_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
def test_images_that_do_not_fit_into_memory_say_what_to_do(large_folder):
    ended = train_with_little_memory(large_folder, "in memory")
    assert "DataError: 6,012 images of 256x256 do not fit into memory: set images_on_disk=True" in ended.stderr


@pytest.fixture
def settings(oasis_folder):
    return choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)


def test_images_are_the_same_on_disk(settings, oasis_folder, tmp_path):
    on_disk = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4, images_on_disk=True)
    before = set((datasets.project_path("data")).iterdir())
    loaded, expected = load_slices(on_disk).train.images, load_slices(settings).train.images
    assert isinstance(loaded, np.memmap)
    assert not isinstance(expected, np.memmap)
    np.testing.assert_array_equal(loaded, expected)
    batches = zip(training_batches(loaded, settings), training_batches(expected, settings).take(5), strict=False)
    for batch, expected_batch in batches:
        np.testing.assert_array_equal(batch, expected_batch)
    assert set((datasets.project_path("data")).iterdir()) == before


def test_images_go_to_disk_when_they_would_take_more_than_half_of_the_free_memory(settings, monkeypatch, capsys):
    for free, expected in ((40_000, False), (30_000, True)):  # 18 slices of 32x32: 18,432 bytes
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: type("", (), {"available": free}))
        assert isinstance(load_slices(settings).train.images, np.memmap) == expected
        assert ("18 images take 0.0 GB" in capsys.readouterr().out) == expected


def test_a_disk_without_room_for_the_images_says_so(settings, monkeypatch):
    monkeypatch.setattr(datasets.shutil, "disk_usage", lambda folder: type("", (), {"free": 100}))
    with pytest.raises(DataError, match=r"data needs 0\.0 GB for the images and has 0\.0 GB left: make room"):
        datasets.new_images((2, 32, 32, 1), on_disk=True)
