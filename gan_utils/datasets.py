"""PNG slices on disk -> uint8 arrays, split by person -> training batches."""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from gan_utils.progress import ProgressLine
from gan_utils.settings import SIMULATED, project_path
from gan_utils.simulated_brains import SIMULATED_MARK, write_simulated_brains

OASIS_FOLDER = "keras_png_slices_data"
OASIS_SPLITS = {split: f"keras_png_slices_{split}" for split in ("train", "validate", "test")}
OASIS_NAME = re.compile(r"case_(?P<person>\d+)_slice_(?P<slice>\d+)\.nii\.png")
OASIS_TREE = """Expected:
  keras_png_slices_data/
    keras_png_slices_train/       case_001_slice_0.nii.png, case_001_slice_1.nii.png, ...
    keras_png_slices_validate/    the same for other people
    keras_png_slices_test/        the same for other people
data/README.md says where the slices come from."""


class DataError(ValueError):
    """A data folder or an image in it cannot be used; the text names it and says what to do."""


@dataclass(frozen=True)
class Split:
    """The slices of some people, in the order of person and slice.

    Attributes:
        images: uint8 (slices, image_size, image_size, 1), 0..255.
        people: int (slices,), the case number of the person in each image.
        slice_numbers: int (slices,), the place of each image in that person's stack.
    """

    images: np.ndarray
    people: np.ndarray
    slice_numbers: np.ndarray

    def __len__(self):
        return len(self.images)


@dataclass(frozen=True)
class SliceData:
    """Three splits with no person in common; built up in notebooks/01_explore_data.ipynb.

    Attributes:
        train: the only images that the GAN ever sees.
        validate: other people, for looking at while settings are being chosen.
        test: other people again, for the final figures.
        simulated: True where the people are simulated.
        folder: where the PNG files lie.
    """

    train: Split
    validate: Split
    test: Split
    simulated: bool
    folder: Path

    @property
    def title(self):
        """What to call these images under a picture."""
        return "simulated brain slices" if self.simulated else "real brain slices"


def load_slices(settings):
    """Find the slices that the settings ask for (simulating people where there are none) and load them.

    Args:
        settings: `Settings`; uses data, image_size and simulated_people.

    Returns:
        `SliceData`, whose images have settings.image_size pixels a side.

    Raises:
        DataError: the folder is missing, empty or laid out otherwise, a person is in two splits, or an image is
            unreadable, truncated, coloured or of another size. The text names the folder or file.
    """
    folder, simulated = find_slices(settings)
    splits = {split: list_oasis_files(folder / name) for split, name in OASIS_SPLITS.items()}
    check_people_apart(splits)
    first = next(iter(splits["train"].values()))
    with opened_image(first) as image:
        size = image.size
    check_size(first, size, settings.image_size)
    loaded = {}
    for split, files in splits.items():
        people, slice_numbers = np.array(list(files), dtype=np.int32).T
        loaded[split] = Split(
            load_images(files.values(), size, settings.image_size, f"Loading {split}"), people, slice_numbers
        )
    return SliceData(**loaded, simulated=simulated, folder=folder)


def find_slices(settings):
    """The folder that holds the three splits, and whether its people are simulated."""
    if settings.data and settings.data != SIMULATED:
        root = project_path(settings.data)
        if not root.is_dir():
            raise DataError(
                f"The data folder {root} does not exist. Correct DATA, or leave it out for simulated people.\n"
                f"{OASIS_TREE}"
            )
        if folder := find_oasis_folder(root):
            return folder, is_simulated(folder)
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(
            f"No {OASIS_SPLITS['train']} folder in {root}, which holds: {inside}. "
            f"Point DATA at the folder that holds {OASIS_FOLDER}.\n{OASIS_TREE}"
        )
    if not settings.data and (folder := find_oasis_folder(project_path("data"))):
        return folder, is_simulated(folder)
    root = project_path("data") / f"simulated_brains_{settings.image_size}px_{settings.simulated_people}people"
    if not root.exists():
        root.parent.mkdir(exist_ok=True)
        with ProgressLine("Simulating people, no real scans") as progress:
            write_simulated_brains(
                root, settings.image_size, people=settings.simulated_people, progress=progress.update
            )
    if folder := find_oasis_folder(root):
        return folder, True
    raise DataError(f"{root} holds no slices any more. Delete the folder, and it will be made anew.")


def is_simulated(folder):
    """Whether the splits in `folder` were written by `write_simulated_brains`, wherever they were moved since."""
    return (folder / SIMULATED_MARK).exists()


def find_oasis_folder(root):
    """The folder below `root` that holds the splits: itself, or keras_png_slices_data, nested once or not."""
    for folder in (root, root / OASIS_FOLDER, root / OASIS_FOLDER / OASIS_FOLDER):
        if (folder / OASIS_SPLITS["train"]).is_dir():
            return folder
    # An OASIS folder without training slices is a broken copy: name it instead of passing it over.
    return root / OASIS_FOLDER if (root / OASIS_FOLDER).is_dir() else None


def list_oasis_files(folder):
    """{(person, slice number): path} of one split, sorted by person, then slice, both as numbers.

    Sorting by name would put slice 10 before slice 2. Hidden files and files that are no PNG are passed over.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.\n{OASIS_TREE}")
    files = {}
    strangers = []
    for path in folder.iterdir():
        if path.suffix.lower() != ".png" or path.name.startswith("."):
            continue
        match = OASIS_NAME.fullmatch(path.name)
        if not match:
            strangers.append(path.name)
            continue
        key = int(match["person"]), int(match["slice"])
        if key in files:
            raise DataError(
                f"{folder} holds slice {key[1]} of case {key[0]} twice: {files[key].name} and {path.name}. Remove one."
            )
        files[key] = path
    if strangers:
        raise DataError(
            f"{folder} holds {len(strangers)} PNG files that are not named like case_001_slice_0.nii.png: "
            f"{', '.join(sorted(strangers)[:5])}{', ...' if len(strangers) > 5 else ''}. Move them elsewhere: label "
            "maps (seg_...) and other pictures must not be trained on."
        )
    if not files:
        raise DataError(f"{folder} holds no slices.\n{OASIS_TREE}")
    return dict(sorted(files.items()))


def check_people_apart(splits):
    """Raise DataError when a person is in two splits: the figures would then praise memorised images."""
    seen = {}
    for split, files in splits.items():
        for person in {person for person, _ in files}:
            if person in seen:
                raise DataError(
                    f"Case {person} is both in {OASIS_SPLITS[seen[person]]} and in {OASIS_SPLITS[split]}. "
                    "Keep all slices of a person in one folder."
                )
            seen[person] = split


def check_size(path, size, image_size):
    width, height = size
    if width != height or width < image_size:
        raise DataError(
            f"{path} has {width}x{height} pixels; expected a square of at least {image_size}x{image_size}. "
            "Pad or crop the slices to a square, or choose a smaller image_size."
        )


def load_images(paths, size, image_size, label="Loading"):
    """uint8 (images, image_size, image_size, 1) from 8-bit grey PNG files that all have `size` pixels."""
    paths = list(paths)
    images = np.empty((len(paths), image_size, image_size, 1), np.uint8)
    # Threads, because decoding a PNG leaves Python free.
    with ThreadPoolExecutor() as pool, ProgressLine(label) as progress:
        decoded = pool.map(lambda path: load_image(path, size, image_size), paths)
        for number, image in enumerate(decoded):
            images[number, :, :, 0] = image
            progress.update(number + 1, len(paths))
    return images


def load_image(path, size, image_size):
    """uint8 (image_size, image_size) of one PNG; a larger picture is averaged over areas, which avoids aliasing."""
    with opened_image(path) as image:
        if image.mode != "L":
            raise DataError(
                f"{path} is not an 8-bit grey image (its mode is {image.mode}). Convert it to 8-bit grey, or move it "
                "elsewhere if it is no MRI slice."
            )
        if image.size != size:
            raise DataError(
                f"{path} has {image.width}x{image.height} pixels, the first image {size[0]}x{size[1]}. "
                "All slices of a data set must have one size."
            )
        if size[0] != image_size:
            image = image.resize((image_size, image_size), Image.Resampling.BOX)
        return np.asarray(image)


@contextmanager
def opened_image(path):
    """The image at `path`; whatever goes wrong with the file becomes a DataError that names it."""
    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path} cannot be read as a PNG image ({error}). Copy it again from the source, or remove it."
        ) from error


def scale_to_unit_range(images):
    """uint8 0..255 -> float32 -1..1, the range of the generator's tanh."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def training_batches(images, settings):
    """Shuffled training batches, float32 (batch_size, image_size, image_size, 1), -1..1.

    Only the image numbers are shuffled, so the shuffle covers the whole data set at no cost in memory: every
    batch mixes slices of many people. Built up in notebooks/01_explore_data.ipynb.

    Args:
        images: uint8 (slices, image_size, image_size, 1), 0..255.
        settings: `Settings`; uses batch_size, steps_per_epoch and seed.

    Returns:
        A `tf.data.Dataset` of one epoch; endless where steps_per_epoch says how long an epoch is.

    Raises:
        ValueError: fewer images than a batch holds.
    """
    if len(images) < settings.batch_size:
        raise ValueError(
            f"{len(images)} training images do not fill a batch of {settings.batch_size}: choose a smaller batch_size"
        )
    with tf.device("CPU"):  # a GPU's memory is for the networks
        images = tf.constant(images)
    numbers = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=settings.seed)
    if settings.steps_per_epoch:
        numbers = numbers.repeat()
    batches = numbers.batch(settings.batch_size, drop_remainder=True)
    return batches.map(lambda batch: scale_to_unit_range(tf.gather(images, batch))).prefetch(tf.data.AUTOTUNE)
