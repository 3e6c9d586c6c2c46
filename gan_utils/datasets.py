"""PNG slices on disk -> uint8 arrays, split by person -> training batches."""

import math
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import tensorflow as tf

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
    why_no_folder,
)
from gan_utils.png_slices import LABEL_VALUES, check_label_maps, check_size, load_image, opened_image
from gan_utils.progress import ProgressLine
from gan_utils.settings import SIMULATED, project_path
from gan_utils.simulation.brains import write_simulated_brains
from gan_utils.simulation.files import SIMULATED_MARK
from gan_utils.simulation.knees import write_drawn_knees


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
        images: uint8 (slices, image_size, image_size, 1), 0..255; in memory, or mapped to a file (`numpy.memmap`).
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
        settings: `Settings`; uses experiment, data, image_size, images_on_disk, resize, simulated_people,
            held_out_patients and seed.

    Returns:
        `SliceData`, whose images have settings.image_size pixels a side.

    Raises:
        DataError: the folder is missing, empty, unreadable or laid out otherwise, a person or a picture is in two
            splits, there are too few people to split, or an image is unreadable, truncated, coloured, a label map or
            of another size. The text names the folder or file; data/README.md says more.
    """
    layout = LAYOUTS[settings.experiment]
    try:
        folder, simulated = find_slices(settings)
        splits = layout.list_splits(folder, settings.seed, settings.held_out_patients)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}). Correct DATA, or allow yourself to read it."
        ) from error
    first = next(iter(splits["train"].values()))
    size = opened_image(first).size
    check_size(first, size, settings.image_size)
    settings = replace(settings, images_on_disk=choose_images_on_disk(settings, sum(map(len, splits.values()))))
    loaded = {name: load_split(files, size, settings, f"Loading {name}") for name, files in splits.items()}
    check_copies(loaded)
    title = f"{layout.stand_ins if simulated else 'real'} {settings.experiment} slices"
    return SliceData(**loaded, title=title, simulated=simulated, folder=folder)


def load_split(files, size, settings, label):
    """`Split` of {Slice: path}, whose pictures all have `size` pixels."""
    check_label_maps(files)
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
            raise DataError(
                f"The data folder {root} {why_no_folder(root)}. Correct DATA, or leave it out for {stand_ins}.\n"
                f"{layout.tree}"
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
        try:
            root.parent.mkdir(exist_ok=True)
            with ProgressLine(f"Making {stand_ins}, no real scans") as progress:
                layout.write_stand_ins(root, settings.image_size, settings.simulated_people, progress=progress.update)
        except OSError as error:
            raise DataError(
                f"The {stand_ins} cannot be written to {root} ({error.strerror or error}). Make room or allow yourself "
                "to write there, or choose fewer simulated_people."
            ) from error
    if folder := layout.find_folder(root):
        return folder, True
    raise DataError(f"{root} holds no slices any more. Delete the folder, and it will be made anew.")


def is_simulated(folder):
    """Whether the slices in `folder` were simulated or drawn by this package, wherever they were moved since."""
    return (folder / SIMULATED_MARK).exists()


def choose_images_on_disk(settings, number):
    """Whether to keep so many images in a file instead of in memory; says so where that was not asked for."""
    if settings.images_on_disk is not None:
        return settings.images_on_disk
    gigabytes = number * settings.image_size**2 / 1e9
    free = psutil.virtual_memory().available / 1e9
    too_many = gigabytes > free / 2
    if too_many:
        print(f"{number:,} images take {gigabytes:.1f} GB, and {free:.1f} GB of memory are free: they stay on disk.")
    return too_many


def new_images(shape, on_disk):
    """An empty uint8 array of images, in memory or in a file in data/ that goes when the array does.

    Raises:
        DataError: there is no room for it.
    """
    if not on_disk:
        try:
            return np.empty(shape, np.uint8)
        except MemoryError as error:
            raise DataError(
                f"{shape[0]:,} images of {shape[1]}x{shape[2]} do not fit into memory: set images_on_disk=True, or "
                "choose a smaller image_size."
            ) from error
    folder = project_path("data")
    needed, free = math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder} needs {needed / 1e9:.1f} GB for the images and has {free / 1e9:.1f} GB left: make room, or "
            "choose a smaller image_size."
        )
    with tempfile.TemporaryFile(dir=folder) as file:  # has no name, so that nothing is left of it in any case
        return np.memmap(file, np.uint8, "w+", shape=shape)


def check_copies(splits):
    """Refuse {split: Split} with one picture in two splits, because its person bears two numbers then.

    Pictures of few grey values are let pass: those from the ends of scans, black or nearly so, are alike by chance.
    """
    for one, other in combinations(splits.values(), 2):
        alike = set(map(middle_row, one.images)) & set(map(middle_row, other.images))
        first, second = (
            {image.tobytes(): split.paths[n] for n, image in enumerate(split.images) if middle_row(image) in alike}
            for split in (one, other)
        )
        for image, path in first.items():
            if image in second and len(set(image)) > LABEL_VALUES:
                raise DataError(
                    f"{path} and {second[image]} are the same picture in different splits. Find out whose it "
                    "is and remove the other: all slices of a person must be in one split, under one number."
                )


def middle_row(image):
    """The row of pixels that tells nearly all pictures apart, in a small part of the time that all rows take."""
    return image[len(image) // 2].tobytes()


def load_images(paths, size, settings, label="Loading"):
    """uint8 (images, image_size, image_size, 1) from 8-bit grey PNG files that all have `size` pixels."""
    paths = list(paths)
    images = new_images((len(paths), settings.image_size, settings.image_size, 1), settings.images_on_disk)

    def load(number):  # straight into its place: results that wait to be collected would fill the memory
        images[number, :, :, 0] = load_image(paths[number], size, settings.image_size, settings.resize)

    # Threads, because decoding a PNG leaves Python free.
    with ThreadPoolExecutor() as pool, ProgressLine(label) as progress:
        for number, _ in enumerate(pool.map(load, range(len(paths)))):
            progress.update(number + 1, len(paths))
    return images


def scale_to_unit_range(images):
    """uint8 0..255 -> float32 -1..1, the range of the images that a generator makes."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def training_batches(images, settings, epochs_done=0):
    """Endless shuffled training batches, float32 (batch_size, image_size, image_size, 1), -1..1.

    Every round through the images has an order of its own that follows from the seed and the number of the round. So
    training that was cut off sees, when it goes on, the batches it would have seen. Only numbers are shuffled, which
    covers the whole data set at no cost in memory: every batch mixes slices of many people. Built up in
    notebooks/01_explore_data.ipynb.

    Args:
        images: uint8 (slices, image_size, image_size, 1), 0..255; on disk as well as in memory.
        settings: `Settings`; uses batch_size, steps_per_epoch and seed.
        epochs_done: how many epochs to leave out.

    Returns:
        A `tf.data.Dataset` without end; `steps_in_epoch` says how many batches make an epoch.

    Raises:
        ValueError: fewer images than a batch holds.
    """
    first_step = epochs_done * steps_in_epoch(images, settings)

    @lru_cache(2)  # a batch may begin in one round and end in the next
    def order_of_round(number):
        return np.random.default_rng((settings.seed, number)).permutation(len(images))

    def batch_of_step(step):
        places = range(step * settings.batch_size, (step + 1) * settings.batch_size)
        return images[[order_of_round(place // len(images))[place % len(images)] for place in places]]

    def tensor_of_step(step):
        batch = tf.numpy_function(batch_of_step, [step], tf.uint8)  # in Python, for a tensor of all images is a copy
        return scale_to_unit_range(tf.ensure_shape(batch, (settings.batch_size, *images.shape[1:])))

    return without_autotune(tf.data.Dataset.counter(first_step).map(tensor_of_step).prefetch(2))


def steps_in_epoch(images, settings):
    """How many training steps make an epoch: as the settings say, else as many as show every image once.

    Raises:
        ValueError: fewer images than a batch holds.
    """
    if len(images) < settings.batch_size:
        raise ValueError(
            f"{len(images)} training images do not fill a batch of {settings.batch_size}: choose a smaller batch_size"
        )
    return settings.steps_per_epoch or len(images) // settings.batch_size


def without_autotune(dataset):
    """The same `tf.data.Dataset`, whose end does not wait for TensorFlow's tuner.

    The tuner sleeps for 10 ms, then for twice as long each time, up to a minute, and a data set that is given up waits
    until it wakes: up to as long as it was in use (TensorFlow 2.21). There is nothing to tune in a few numbers.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
