"""PNG slices on disk -> uint8 arrays, split by subject -> training batches."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gan_utils import DataError, ProgressLine, counted, project_path
from gan_utils.slices import (
    check_copies,
    check_grey_levels,
    check_label_maps,
    check_size,
    find_folder,
    find_slices_in,
    list_splits,
    load_image,
    open_image,
)

SMOKE = {"epochs": 2, "steps_per_epoch": 4}
LOADED_BY = ("experiment", "data", "image_size", "resize", "phantom_subjects")
SPLIT_BY = ("held_out_patients", "seed")  # where no folders say who is held out
PHANTOMS = "phantoms"  # as the data folder: digital phantoms even where data/ holds real slices
TABLE_OF_CUT_SLICES = "people.csv"  # is beside what `make slices` cut
PICTURE_MARK = "PICTURES.txt"  # is beside what it made from pictures, of which nothing is known
PHANTOM_MARK = "SIMULATED.txt"  # is in every set of phantoms, so that it is never taken for real scans


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One entry of `DATASETS`: all that is special about a set of slices."""

    folder: str  # the published folder
    name_pattern: re.Pattern  # of file names: groups subject and number; scan and side where names tell them
    split_folders: dict | None = None  # {split: folder inside `folder`}; None: all in one, split here by the seed
    tree: str  # the layout in words, for error messages
    title: str  # of the images, such as "brain slices"
    published_ssim: str  # how the report scores images, a key of metrics.PUBLISHED_SSIM
    published: dict  # settings of the published system
    profiles: dict  # {profile: what it changes in them}
    improved: dict = field(default_factory=dict)  # {profile: what it changes in the improved recipe}
    phantom_width: float | None = None  # mm, of the square images of digital phantoms
    cut_pixel: float | None = None  # mm, of slices that `make slices` cuts


# What the published reports leave open is settled here: knees are padded rather than squashed, and their generator has
# the report's five blocks with the code's linear output. (Numbers of at most 18 digits fit an int64.)
# fmt: off
DATASETS = {
    "brain": Dataset(
        folder="keras_png_slices_data",
        name_pattern=re.compile(r"case_(?P<subject>\d{1,18})_slice_(?P<number>\d{1,18})\.nii\.png", re.ASCII),
        split_folders={split: f"keras_png_slices_{split}" for split in ("train", "validate", "test")},
        tree="""Expected:
  keras_png_slices_data/
    keras_png_slices_train/       case_001_slice_0.nii.png, case_001_slice_1.nii.png, ...
    keras_png_slices_validate/    the same for other subjects
    keras_png_slices_test/        the same for other subjects
data/README.md says where the slices come from.""",
        title="brain slices",
        published_ssim="maximum",
        published={
            "networks": "brain", "image_size": 256, "latent_dim": 100, "generator_input_dim": 32, "filters": 64,
            "updates": "simultaneous", "batch_size": 16, "epochs": 50,
            "generator_learning_rate": 1e-4, "discriminator_learning_rate": 1e-4, "beta_1": 0.9,
        },
        profiles={
            "full": {},
            # A fifth of the published number of images, hence larger steps. In trials at 64 pixels with steps of
            # 5e-4, images after 52,000 showed the lattice of 3x3 kernels with beta_1 0.9, and none with 0.5.
            "quick": {
                "image_size": 64, "generator_input_dim": 8, "filters": 32, "epochs": 25, "steps_per_epoch": 240,
                "generator_learning_rate": 5e-4, "discriminator_learning_rate": 5e-4, "beta_1": 0.5,
            },
            "smoke": {"image_size": 32, "generator_input_dim": 4, "filters": 4, "phantom_subjects": 10, **SMOKE},
        },
        improved={"full": {}, "quick": {"steps_per_epoch": 330}, "smoke": {"filters": 4}},
        phantom_width=236,
        cut_pixel=1,
    ),
    "knee": Dataset(
        folder="AKOA_Analysis",
        name_pattern=re.compile(  # the side is spelt in many ways; the series number may be of any length
            r"OAI(?P<subject>\d{1,18})_BaseLine_(?P<scan>\d+_?de3d1_SAG_3D_DESS_WE_"
            r"(?P<side>(?i:RIGHT|LEFT|R_I_G_H_T|L_E_F_T)))\.nii\.gz_(?P<number>\d{1,18})\.png",
            re.ASCII,
        ),
        tree="""Expected:
  AKOA_Analysis/    OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png, ..._1.png, ...
data/README.md says where the slices come from.""",
        title="knee slices",
        published_ssim="mean",
        published={
            "networks": "knee", "image_size": 128, "latent_dim": 256, "generator_input_dim": 4, "filters": 16,
            "initial_weights": "he_normal", "updates": "alternating", "batch_size": 128, "epochs": 35,
            "generator_learning_rate": 2e-4, "discriminator_learning_rate": 2e-4, "beta_1": 0.5,
        },
        profiles={
            "full": {},
            # Smaller batches make more steps of as many images. In trials at 64 pixels, images after 45,000 shared one
            # layout from 4x4 and differed from 8x8, where the published code starts. The discriminator learns at a
            # quarter of the rate: at the full one it had won (loss 0.04 after 160,000), and the images stayed pale.
            "quick": {
                "image_size": 64, "generator_input_dim": 8, "held_out_patients": None, "batch_size": 16,
                "epochs": 25, "steps_per_epoch": 220, "discriminator_learning_rate": 5e-5,
            },
            "smoke": {"image_size": 32, "filters": 4, "batch_size": 16, "phantom_subjects": 6, **SMOKE},
        },
        improved={"full": {}, "quick": {"steps_per_epoch": 360}, "smoke": {"filters": 4}},
        phantom_width=114,
        cut_pixel=0.5,
    ),
}
# fmt: on


@dataclass(frozen=True)
class Split:
    """The slices of some subjects, in the order of subject, scan and place in the scan."""

    images: np.ndarray  # uint8 (slices, image_size, image_size, 1), 0..255
    subjects: np.ndarray  # int (slices,), the number of each one's subject: case of OASIS, patient of AKOA
    scans: np.ndarray  # int (slices,), the number of the scan, from 0 in this split; a subject may have several
    slice_numbers: np.ndarray  # int (slices,), the place of each image in its scan
    sides: np.ndarray  # str (slices,), LEFT or RIGHT for knees, empty for brains
    paths: tuple[Path, ...]  # the file of each image

    def __len__(self):
        return len(self.images)

    @property
    def levels(self):
        """float32 (slices, 1): the place of each image in its scan, from 0 for the first to 1 for the last."""
        numbers = [self.slice_numbers[self.scans == scan] for scan in np.unique(self.scans)]
        levels = [(each - each[0]) / max(each[-1] - each[0], 1) for each in numbers]  # sorted by scan and number
        return np.concatenate(levels).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Splits:
    """Three splits with no subject in common; built up in notebooks/01_explore_data.ipynb."""

    train: Split  # the only images that the GAN ever sees
    validate: Split  # other subjects, to choose settings by
    test: Split  # other subjects again, for the final metrics
    title: str  # of the images, such as "brain slices of digital phantoms"
    phantoms: bool  # True where nobody was scanned
    folder: Path  # of the PNG files
    loaded_by: dict  # the settings that they depend on
    pixel_size: float | None = None  # mm, of the images; None: unknown


def load(settings):
    """Load the slices that the `Settings` ask for, as `Splits`; those in LOADED_BY and SPLIT_BY are used.

    Raises:
        DataError: the folder is missing, empty, unreadable or laid out otherwise, a subject or a picture is in two
            splits, there are too few subjects to split, or an image is unreadable, truncated, coloured, a label map or
            of another size. The text names the folder or file; data/README.md says more.
    """
    dataset = DATASETS[settings.experiment]
    try:
        folder = find_slices(settings)
        files = list_splits(folder, dataset, settings.seed, settings.held_out_patients)
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}). Correct DATA, or allow yourself to read it."
        ) from error
    first = next(iter(files["train"].values()))
    size = open_image(first).size
    check_size(first, size, settings.image_size)
    splits = {name: load_split(some, size, settings, f"Loading {name}") for name, some in files.items()}
    check_grey_levels(splits)
    check_copies(splits)
    phantoms = (folder / PHANTOM_MARK).exists()
    title = f"{dataset.title} of digital phantoms" if phantoms else f"real {dataset.title}"
    was_cut = any((place / TABLE_OF_CUT_SLICES).exists() for place in (folder, folder.parent))
    if (folder / PICTURE_MARK).exists():
        title, was_cut = "pictures of your own", False
    width = dataset.phantom_width if phantoms else dataset.cut_pixel * max(size) if was_cut else None
    return Splits(
        **splits,
        title=title,
        phantoms=phantoms,
        folder=folder,
        pixel_size=width / settings.image_size if width and settings.resize == "pad" else None,
        loaded_by=loaded_by(settings),
    )


def loaded_by(settings):
    """{name: value} of the settings that decide which slices are loaded, and how."""
    names = LOADED_BY if DATASETS[settings.experiment].split_folders else LOADED_BY + SPLIT_BY
    return {name: getattr(settings, name) for name in names}


def find_slices(settings):
    """The folder of the slices: the one named by DATA, else one in data/, else that of the phantoms."""
    dataset = DATASETS[settings.experiment]
    if settings.data in (None, PHANTOMS):
        folder = phantom_folder(settings) if needs_phantoms(settings) else project_path("data")
        if found := find_folder(folder, dataset):
            return found
        raise DataError(f"{folder} holds no slices. Delete it if it is there, then call prepare.phantoms(settings).")
    return find_slices_in(project_path(settings.data), dataset)


def needs_phantoms(settings):
    """Whether phantoms are wanted: where they are asked for, or nothing else is named or found in data/."""
    own = settings.data or find_folder(project_path("data"), DATASETS[settings.experiment])
    return settings.data == PHANTOMS or not own


def phantom_folder(settings):
    """Where the phantoms of these settings are, or will be once `prepare.phantoms` has made them."""
    s = settings
    return project_path("data") / f"{s.experiment}_phantoms_{s.image_size}px_{s.phantom_subjects}subjects"


def load_split(files, size, settings, label):
    """`Split` of {SliceName: path}, whose pictures all have `size` pixels."""
    check_label_maps(files)
    paths = list(files.values())
    try:
        images = np.empty((len(paths), settings.image_size, settings.image_size, 1), np.uint8)
    except MemoryError as error:
        raise DataError(f"{len(paths):,} images do not fit into memory: choose a smaller image_size.") from error

    def load_into_place(number):  # results that wait to be collected would double the memory
        images[number, :, :, 0] = load_image(paths[number], size, settings.image_size, settings.resize)

    with ThreadPoolExecutor() as pool, ProgressLine(label) as progress:  # PNG decoding releases the GIL
        for number, _ in enumerate(pool.map(load_into_place, range(len(paths)))):
            progress.update(number + 1, len(paths))
    scans = {scan: number for number, scan in enumerate(dict.fromkeys((name.subject, name.scan) for name in files))}
    return Split(
        images=images,
        subjects=np.array([name.subject for name in files]),
        scans=np.array([scans[name.subject, name.scan] for name in files]),
        slice_numbers=np.array([name.number for name in files]),
        sides=np.array([name.side for name in files]),
        paths=tuple(paths),
    )


def scale_to_unit_range(images):
    """uint8 0..255 -> float32 -1..1, the range of the images that a generator makes."""
    return np.asarray(images, np.float32) / np.float32(127.5) - 1


def how_to_scale(least, most):
    """What to do with images that do not span -1 to 1 but `least` to `most`, in words."""
    if not np.isfinite([least, most]).all():
        return "some values are not finite"
    if least < 0:
        return "clip them, as networks.generate_images does, or scale them by their own minimum and maximum"
    return "divide by 127.5 and subtract 1" if most > 1.001 else "multiply by 2 and subtract 1"


def training_batches(images, settings, epochs_done=0, labels=None):
    """Endless shuffled training batches, float32 (batch_size, image_size, image_size, 1), -1..1.

    Every round through the images has an order of its own, which follows from the seed: training that is resumed sees
    the batches it would have seen. The whole set is shuffled, by number, so every batch mixes slices of many subjects.

    Args:
        images: uint8 (slices, image_size, image_size, 1), 0..255.
        settings: `Settings`; uses batch_size, steps_per_epoch and seed.
        epochs_done: how many epochs to leave out; `steps_in_epoch` says how many batches make one.
        labels: (slices, ...), such as `splits.train.levels`, for a conditional GAN: batches are (images, labels) then.
    """
    import tensorflow as tf  # here, so that commands that do not train start at once

    def load_batch(numbers):
        batch = tf.numpy_function(lambda numbers: scale_to_unit_range(images[numbers]), [numbers], tf.float32)
        batch = tf.ensure_shape(batch, (settings.batch_size, *images.shape[1:]))
        return batch if labels is None else (batch, tf.gather(labels, numbers))

    def order_of_round(number):
        return tf.random.experimental.stateless_shuffle(tf.range(len(images)), [settings.seed, number])

    steps_done = epochs_done * steps_in_epoch(images, settings)
    numbers = tf.data.Dataset.counter().map(order_of_round).unbatch().batch(settings.batch_size, drop_remainder=True)
    batches = numbers.skip(steps_done).map(load_batch).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False  # there is nothing to tune, and the end of training would wait for the tuner
    return batches.with_options(options)


def steps_in_epoch(images, settings):
    """How many training steps make an epoch: as the settings say, else as many as show every image once."""
    if len(images) < settings.batch_size:
        raise ValueError(
            f"{counted(len(images), 'training image')} cannot fill a batch of {settings.batch_size}: lower batch_size"
        )
    return settings.steps_per_epoch or len(images) // settings.batch_size
