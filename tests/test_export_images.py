"""Images to take along: the same for a seed, marked as generated, and made by Keras alone from the saved generator."""

import subprocess
import sys

import imageio.v3 as imageio
import keras
import numpy as np
import pytest
from PIL import Image

from gan_utils import PROJECT_FOLDER
from gan_utils.networks import build_brain_generator, build_dcgan_generator, build_knee_generator, save_network
from scripts.export_images import export_images

pytestmark = pytest.mark.slow

GENERATORS = {
    "brain": lambda: build_brain_generator(image_size=32, filters=4, latent_dim=8, generator_input_dim=4),
    "knee": lambda: build_knee_generator(image_size=32, filters=4, latent_dim=8, generator_input_dim=4),
    "improved": lambda: build_dcgan_generator(image_size=32, filters=4, latent_dim=8, generator_input_dim=4),
}


@pytest.fixture
def generator():
    keras.utils.set_random_seed(1)
    return GENERATORS["brain"]()


def pictures(sheet):
    return [imageio.imread(path) for path in sorted(sheet.parent.glob("sample_*.png"))]


def test_images_are_those_of_the_seed_however_many(tmp_path, generator):
    few = pictures(export_images(tmp_path / "few", generator, 3, seed=5))
    many = pictures(export_images(tmp_path / "many", generator, 40, seed=5))
    others = pictures(export_images(tmp_path / "others", generator, 3, seed=6))
    assert (len(few), len(many)) == (3, 40)
    assert all(np.array_equal(one, same) for one, same in zip(few, many, strict=False))
    assert not any(np.array_equal(one, other) for one, other in zip(few, others, strict=True))
    assert len({picture.tobytes() for picture in many}) == 40


def test_sheet_shows_the_images_in_order(tmp_path, generator):
    sheet = export_images(tmp_path, generator, 10, seed=1)
    assert sheet == tmp_path / "samples_seed_1" / "sheet.png"
    tenth = imageio.imread(sheet)[34:66, 34:66]  # second row, second column; 32 pixels and a gap of 2
    assert np.array_equal(tenth, pictures(sheet)[9])


def test_sheet_stops_at_64_images(tmp_path, generator):
    assert imageio.imread(export_images(tmp_path, generator, 70)).shape == (8 * 34 - 2, 8 * 34 - 2)


def test_every_file_says_that_it_was_generated(tmp_path, generator):
    sheet = export_images(tmp_path / "brain-baseline-quick", generator, 2, seed=7)
    assert Image.open(sheet.with_name("sample_0002.png")).text["Title"] == "brain-baseline-quick, seed 7, number 2"
    for path in sheet.parent.iterdir():
        assert "Generated" in Image.open(path).text["Disclaimer"]


@pytest.mark.parametrize(("number", "seed"), [(0, 1), (1, -1)])
def test_impossible_requests_are_refused(tmp_path, generator, number, seed):
    with pytest.raises(ValueError, match="choose 1 or more"):
        export_images(tmp_path, generator, number, seed)


KERAS_ALONE = """
import sys, keras, numpy as np
for name in sys.argv[1:]:
    generator = keras.models.load_model(f"{name}.keras")
    latents = np.random.default_rng(3).standard_normal((32, generator.input_shape[1]), "float32")
    np.save(f"{name}.npy", generator(latents))
assert not [name for name in sys.modules if name.startswith(("gan_utils", "scripts"))]
"""


def test_saved_generators_need_nothing_but_keras(tmp_path):
    """A fresh process that never imports gan_utils makes the very pixels of the files."""
    sheets = {}
    for name, build in GENERATORS.items():
        generator = build()
        save_network(generator, tmp_path / f"{name}.keras")
        sheets[name] = export_images(tmp_path / name, generator, 2, seed=3)
    subprocess.run([sys.executable, "-c", KERAS_ALONE, *sheets], check=True, cwd=tmp_path, capture_output=True)
    for name, sheet in sheets.items():
        levels = np.clip((np.load(tmp_path / f"{name}.npy")[:2, ..., 0] + 1) * 127.5, 0, 255)
        assert np.abs(levels - np.stack(pictures(sheet))).max() < 0.51  # rounded to whole grey levels


def test_command_says_what_to_run_where_there_is_no_run(tmp_path):
    command = [sys.executable, "-m", "scripts.export_images", "--profile", "smoke", "--settings", f"output={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER)
    assert done.returncode == 1
    assert "03_train.ipynb" in done.stderr
    assert "Traceback" not in done.stderr
