"""PNG slices on disk -> uint8 arrays, split by person -> training batches."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from gan_utils.drawn_knees import write_drawn_knees
from gan_utils.layouts import (
    AKOA_FOLDER,
    AKOA_TREE,
    OASIS_FOLDER,
    OASIS_TREE,
    DataError,
    find_akoa_folder,
    find_oasis_folder,
    list_akoa_splits,
    list_oasis_splits,
)
from gan_utils.progress import ProgressLine
from gan_utils.settings import SIMULATED, project_path
from gan_utils.simulated_brains import write_simulated_brains
from gan_utils.simulated_files import SIMULATED_MARK


class Layout(NamedTuple):
    """How the slices of one experiment are found on disk, and what stands in where there are none."""

    name: str  # the published folder
    tree: str  # the layout in words
    find_folder: Callable  # folder -> the one below it that holds the slices, or None
    list_splits: Callable  # folder, seed, held_out -> {split: {Slice: path}}
    stand_ins: str  # what stands in for real people: simulated or drawn
    write_stand_ins: Callable  # folder, image_size, people, progress= -> the folder, written


LAYOUTS = {
    "brain": Layout(
        name=OASIS_FOLDER,
        tree=OASIS_TREE,
        find_folder=find_oasis_folder,
        list_splits=list_oasis_splits,
        stand_ins="simulated",
        write_stand_ins=write_simulated_brains,
    ),
    "knee": Layout(
        name=AKOA_FOLDER,
        tree=AKOA_TREE,
        find_folder=find_akoa_folder,
        list_splits=list_akoa_splits,
        stand_ins="drawn",
        write_stand_ins=write_drawn_knees,
    ),
}


@dataclass(frozen=True)
class Split:
    """The slices of some people, in the order of person, scan and place in the scan.

    Attributes:
        images: uint8 (slices, image_size, image_size, 1), 0..255.
        people: int (slices,), the number of the person in each image: case of OASIS, patient of AKOA.
        scans: int (slices,), the number of the scan, counted from 0 in this split; a person may have several.
        slice_numbers: int (slices,), the place of each image in its scan.
        sides: str (slices,), LEFT or RIGHT for knees, empty for brains.
        paths: the file of each image.
    """

    images: np.ndarray
    people: np.ndarray
    scans: np.ndarray
    slice_numbers: np.ndarray
    sides: np.ndarray
    paths: tuple[Path, ...]

    def __len__(self):
        return len(self.images)


@dataclass(frozen=True)
class SliceData:
    """Three splits with no person in common; built up in notebooks/01_explore_data.ipynb.

    Attributes:
        train: the only images that the GAN ever sees.
        validate: other people, for looking at while settings are being chosen.
        test: other people again, for the final figures.
        title: what to call the images under a picture, such as "simulated brain slices".
        simulated: True where no real person was scanned.
        folder: where the PNG files lie.
    """

    train: Split
    validate: Split
    test: Split
    title: str
    simulated: bool
    folder: Path


def load_slices(settings):
    """Find the slices that the settings ask for (simulating people where there are none) and load them.

    Args:
        settings: `Settings`; uses experiment, data, image_size, resize, simulated_people, held_out_patients and seed.

    Returns:
        `SliceData`, whose images have settings.image_size pixels a side.

    Raises:
        DataError: the folder is missing, empty or laid out otherwise, a person is in two splits, there are too few
            people to split, or an image is unreadable, truncated, coloured or of another size. The text names the
            folder or file.
    """
    folder, simulated = find_slices(settings)
    layout = LAYOUTS[settings.experiment]
    splits = layout.list_splits(folder, settings.seed, settings.held_out_patients)
    first = next(iter(splits["train"].values()))
    with opened_image(first) as image:
        size = image.size
    check_size(first, size, settings.image_size)
    loaded = {name: load_split(files, size, settings, f"Loading {name}") for name, files in splits.items()}
    title = f"{layout.stand_ins if simulated else 'real'} {settings.experiment} slices"
    return SliceData(**loaded, title=title, simulated=simulated, folder=folder)


def load_split(files, size, settings, label):
    """`Split` of {Slice: path}, whose pictures all have `size` pixels."""
    scans = {scan: number for number, scan in enumerate(dict.fromkeys((name.person, name.scan) for name in files))}
    return Split(
        images=load_images(files.values(), size, settings, label),
        people=np.array([name.person for name in files]),
        scans=np.array([scans[name.person, name.scan] for name in files]),
        slice_numbers=np.array([name.number for name in files]),
        sides=np.array([name.side for name in files]),
        paths=tuple(files.values()),
    )


def find_slices(settings):
    """The folder that holds the slices, and whether its people are simulated."""
    layout = LAYOUTS[settings.experiment]
    stand_ins = f"{layout.stand_ins} {settings.experiment}s"
    if settings.data and settings.data != SIMULATED:
        root = project_path(settings.data)
        if not root.is_dir():
            problem = "is not a folder" if root.exists() else "does not exist"
            raise DataError(
                f"The data folder {root} {problem}. Correct DATA, or leave it out for {stand_ins}.\n{layout.tree}"
            )
        if folder := layout.find_folder(root):
            return folder, is_simulated(folder)
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(
            f"No {settings.experiment} slices in {root}, which holds: {inside}. Point DATA at the folder that holds "
            f"{layout.name}, or choose the other EXPERIMENT.\n{layout.tree}"
        )
    if not settings.data and (folder := layout.find_folder(project_path("data"))):
        return folder, is_simulated(folder)
    name = f"{stand_ins.replace(' ', '_')}_{settings.image_size}px_{settings.simulated_people}people"
    root = project_path("data") / name
    if not root.exists():
        root.parent.mkdir(exist_ok=True)
        with ProgressLine(f"Making {stand_ins}, no real scans") as progress:
            layout.write_stand_ins(root, settings.image_size, settings.simulated_people, progress=progress.update)
    if folder := layout.find_folder(root):
        return folder, True
    raise DataError(f"{root} holds no slices any more. Delete the folder, and it will be made anew.")


def is_simulated(folder):
    """Whether the slices in `folder` were simulated or drawn by this package, wherever they were moved since."""
    return (folder / SIMULATED_MARK).exists()


def check_size(path, size, image_size):
    if max(size) < image_size:
        raise DataError(
            f"{path} has {size[0]}x{size[1]} pixels; expected at least {image_size} on the longer side. Choose a "
            "smaller image_size."
        )


def load_images(paths, size, settings, label="Loading"):
    """uint8 (images, image_size, image_size, 1) from 8-bit grey PNG files that all have `size` pixels."""
    paths = list(paths)
    images = np.empty((len(paths), settings.image_size, settings.image_size, 1), np.uint8)
    # Threads, because decoding a PNG leaves Python free.
    with ThreadPoolExecutor() as pool, ProgressLine(label) as progress:
        decoded = pool.map(lambda path: load_image(path, size, settings.image_size, settings.resize), paths)
        for number, image in enumerate(decoded):
            images[number, :, :, 0] = image
            progress.update(number + 1, len(paths))
    return images


def load_image(path, size, image_size, resize="pad"):
    """uint8 (image_size, image_size) of one PNG."""
    with opened_image(path) as image:
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
    """uint8 0..255 -> float32 -1..1, the range of the images that a generator makes."""
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
    return without_autotune(batches.map(lambda batch: scale_to_unit_range(tf.gather(images, batch))).prefetch(2))


def without_autotune(dataset):
    """The same `tf.data.Dataset`, whose end does not wait for TensorFlow's tuner.

    The tuner sleeps for 10 ms, then for twice as long each time, up to a minute, and a data set that is given up waits
    until it wakes: up to as long as it was in use (TensorFlow 2.21). There is nothing to tune in a few numbers.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
