import hypothesis
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from gan_utils import PROJECT_FOLDER, DataError, data
from gan_utils.data import DATASETS
from gan_utils.metrics import METRICS
from gan_utils.settings import choose_settings

NOTEBOOKS = sorted((PROJECT_FOLDER / "notebooks").glob("0[1-9]*.ipynb"))
FIRST_LOOK = PROJECT_FOLDER / "notebooks" / "00_first_look.ipynb"
PAGES = [
    page
    for place in ("", "[a-z]*/", "*/showcase/", "*/first_look/")
    for page in sorted(PROJECT_FOLDER.glob(f"{place}*.md"))
]

# No deadline: how long an example takes depends on the machine. The same examples in every run.
hypothesis.settings.register_profile("tutorial", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tutorial")


# The metrics that need nothing but images, which training watches.
OF_IMAGES = {name: metric for name, metric in METRICS.items() if metric.needs is None}


@pytest.fixture
def close_figures():
    """Figures of one test do not pile up behind the next."""
    yield
    plt.close("all")


@pytest.fixture
def oasis_folder(tmp_path):
    """A made-up OASIS folder: three slices of six subjects in three splits, 40x40 pixels of noise."""
    return make_oasis_folder(tmp_path / "keras_png_slices_data")


@pytest.fixture
def akoa_folder(tmp_path):
    """A made-up AKOA folder: three slices of a scan of five patients, 65x57 pixels of noise."""
    return make_akoa_folder(tmp_path / "AKOA_Analysis")


def make_oasis_folder(folder, size=40, subjects=((1, 2, 10), (402, 403), (441,)), slices=(0, 2, 10)):
    rng = np.random.default_rng(0)
    for name, cases in zip(DATASETS["brain"].split_folders.values(), subjects, strict=True):
        (folder / name).mkdir(parents=True)
        for case in cases:
            for number in slices:
                image = rng.integers(0, 256, (size, size), dtype=np.uint8)
                Image.fromarray(image).save(folder / name / f"case_{case:03d}_slice_{number}.nii.png")
    return folder


def make_akoa_folder(folder, size=(65, 57), patients=(11, 12, 13, 14, 15), slices=(0, 2, 10)):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for patient in patients:
        side = "RIGHT" if patient % 2 else "LEFT"
        for number in slices:
            grey = rng.integers(0, 256, size[::-1], dtype=np.uint8)
            name = f"OAI{patient:07d}_BaseLine_3_de3d1_SAG_3D_DESS_WE_{side}.nii.gz_{number}.png"
            Image.fromarray(np.stack([grey] * 3, axis=-1)).save(folder / name)
    return folder


def settings_for(folder, experiment="brain", **changes):
    sizes = {"image_size": 40, "generator_input_dim": 5}
    return choose_settings(experiment, "smoke", data=folder, **{**sizes, **changes})


def train_file(folder):
    return folder / "keras_png_slices_train" / "case_002_slice_10.nii.png"


def assert_refused(folder, *expected_words, experiment="brain", **changes):
    with pytest.raises(DataError) as refusal:
        data.load(settings_for(folder, experiment, **changes))
    for word in expected_words:
        assert word in str(refusal.value)


@pytest.fixture(scope="module")
def training():
    return make_images(150, seed=0)


@pytest.fixture(scope="module")
def held_out():
    return make_images(60, seed=1)


@pytest.fixture(scope="module")
def good():
    """What a perfect generator would make: other images of the same kind."""
    return make_images(60, seed=2)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(3).uniform(-1, 1, (60, 32, 32, 1)).astype(np.float32)


def make_images(number, seed, size=32):
    """Smooth random blobs with a little fine texture, in a set with no two alike."""
    noise = np.random.default_rng(seed).standard_normal((number, size, size, 1))
    blobs = gaussian_filter(noise, (0, 4, 4, 0), mode="wrap")
    texture = gaussian_filter(noise, (0, 0.7, 0.7, 0), mode="wrap")
    return np.tanh(8 * blobs + 0.2 * texture).astype(np.float32)


def blurred(images):
    return gaussian_filter(images, (0, 1, 1, 0))


def stamped(images):
    """The lattice of a transposed convolution of stride 2: every second pixel of every second row is brighter."""
    images = 0.8 * images
    images[:, ::2, ::2] += 0.2
    return images


def chessboard(images):
    rows, columns = np.indices(images.shape[1:3])
    return 0.9 * images + 0.1 * np.where((rows + columns) % 2, 1, -1)[..., None]
