"""Slices as PNG files: what their names say, and what they must be; what must not be trained on is refused by name."""

import re
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, groupby
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from gan_utils import DataError, counted

LARGEST_SIDE = 4096  # pixels; a small file may claim to be so large a picture that it fills the memory
ANIMATION = re.compile(rb"\0\0..acTL", re.DOTALL)  # length and name of the part that makes a PNG an animated one
LEAST_CONTRAST = 50  # grey levels between the 0.5th and 99.5th percentile of what is not black
LABEL_VALUES = 8  # grey values: a label map has no more, 4 in OASIS; a scan has far more


class SliceName(NamedTuple):
    """What a file name says. Names sort by subject, then scan, then number."""

    subject: int  # the case number of OASIS, the number after OAI of AKOA
    scan: str  # tells a subject's scans apart; empty where there is one a subject
    number: int  # place in the scan, from 0
    side: str  # LEFT or RIGHT knee; empty for brains


def read_name(name, pattern):
    """The `SliceName` of a file name, or None where it does not fit the pattern of the data set."""
    match = pattern.fullmatch(name)
    if not match:
        return None
    found = {"scan": "", "side": "", **match.groupdict()}
    side = found["side"].replace("_", "").upper()
    return SliceName(int(found["subject"]), found["scan"], int(found["number"]), side)


def find_folder(root, dataset):
    """The folder at or below `root` that holds the slices of a data set, nested once or not, or None."""
    nested = root / dataset.folder / dataset.folder
    for folder in (nested, root / dataset.folder, root):
        if dataset.split_folders and any((folder / name).is_dir() for name in dataset.split_folders.values()):
            return folder
        if not dataset.split_folders and any(
            read_name(path.name, dataset.name_pattern) for path in folder.glob("*.png")
        ):
            return folder
    # A published folder without slices is a broken copy: name it instead of passing it over.
    return root / dataset.folder if (root / dataset.folder).is_dir() else None


def find_slices_in(root, dataset):
    """What `find_folder` finds in the folder that DATA names, or a `DataError` that says what is there instead."""
    if not root.is_dir():
        raise DataError(
            f"The data folder {root} {why_no_folder(root)}. Correct DATA, or leave it out for phantoms.\n{dataset.tree}"
        )
    if found := find_folder(root, dataset):
        return found
    raise DataError(
        f"No {dataset.title} in {root}. {what_else(root)} Point DATA at the folder that holds {dataset.folder}, "
        f"or choose another EXPERIMENT.\n{dataset.tree}"
    )


def list_splits(folder, dataset, seed, held_out=1):
    """{"train": {SliceName: path}, "validate": ..., "test": ...}, with no subject in two of them.

    As the folders say, or else `held_out` subjects validate, as many test (the seed chooses them), and the rest train;
    None: a fifth of them each.
    """
    pattern, tree = dataset.name_pattern, dataset.tree
    if dataset.split_folders:
        splits = {name: list_slices(folder / place, pattern, tree) for name, place in dataset.split_folders.items()}
        for one, other in combinations(splits, 2):
            if shared := {name.subject for name in splits[one]} & {name.subject for name in splits[other]}:
                raise DataError(
                    f"Case {min(shared)} is both in {dataset.split_folders[one]} and in "
                    f"{dataset.split_folders[other]}. Keep all slices of a subject in one folder."
                )
        return splits
    files = list_slices(folder, pattern, tree)
    subjects = sorted({name.subject for name in files})
    held_out = held_out or max(len(subjects) // 5, 1)
    needed = 2 * held_out + 1
    if len(subjects) < needed:
        raise DataError(
            f"{folder} holds slices of {counted(len(subjects), 'patient')}: "
            f"{', '.join(map(str, subjects))}. At least {needed} are needed, because a patient may be in one split "
            f"only: {held_out} to validate, {held_out} to test, the others to train (held_out_patients={held_out})."
        )
    chosen = np.random.default_rng(seed).choice(subjects, 2 * held_out, replace=False)
    split_of = dict.fromkeys(chosen[:held_out], "validate") | dict.fromkeys(chosen[held_out:], "test")
    splits = {"train": {}, "validate": {}, "test": {}}
    for name, path in files.items():
        splits[split_of.get(name.subject, "train")][name] = path
    return splits


def list_slices(folder, pattern, tree):
    """{SliceName: path} of the PNG files in a folder, sorted; hidden files and other formats are passed over."""
    if not folder.is_dir():
        raise DataError(f"The folder {folder} {why_no_folder(folder)}.\n{tree}")
    files, unknown = {}, []
    for path in folder.iterdir():
        if path.suffix.lower() != ".png" or path.name.startswith("."):
            continue
        name = read_name(path.name, pattern)
        if name is None:
            unknown.append(path.name)
        elif name in files:
            raise DataError(f"{folder} holds one slice twice: {files[name].name} and {path.name}. Remove one.")
        else:
            files[name] = path
    if unknown:
        raise DataError(
            f"{folder} holds {counted(len(unknown), 'PNG file')} with unknown names: {', '.join(sorted(unknown)[:5])}"
            f"{', ...' if len(unknown) > 5 else ''}. Rename them, or move them elsewhere: label maps (seg_...) and "
            f"other pictures must not be trained on.\n{tree}"
        )
    if not files:
        raise DataError(f"{folder} holds no slices. {what_else(folder)}\n{tree}")
    return dict(sorted(files.items()))


def what_else(folder):
    """What a folder without slices holds instead, and what to do with it, in words."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))[:5]
    return (
        f"It holds: {', '.join(names) or 'nothing'}. Cut volumes, or PNG pictures with other names than those below, "
        "by `make slices FROM=folder`; convert other pictures to 8-bit grey PNG first, arrays and DICOM files to NIfTI."
    )


def why_no_folder(path):
    """Why `path` is not a folder, in words."""
    if path.exists():
        return "is not a folder"
    return "is a link that leads nowhere" if path.is_symlink() else "does not exist"


def load_image(path, size, image_size, resize="pad"):
    """uint8 (image_size, image_size) of one PNG of `size` pixels, (width, height)."""
    image = open_image(path)
    if image.size != size:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, the first image {size[0]}x{size[1]}. "
            "All slices of a data set must have one size."
        )
    return np.asarray(resized(grey_channel(image, path), image_size, resize))


def open_image(path):
    """The decoded PNG image at `path`; whatever is wrong with the file becomes a `DataError` that names it."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise OSError("it is not a file, or a link that leads nowhere")
        with open(path, "rb", buffering=2**16) as file:
            if ANIMATION.search(file.peek()):  # before Pillow, which only warns of a broken animation
                raise ValueError("it is an animation")
            image = PngImageFile(file)  # Image.open takes other formats, too, and only warns of pictures too large
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{image.width}x{image.height} pixels are too many, at most {LARGEST_SIDE} a side")
            image.load()
        return image
    except Exception as error:  # decoders raise nearly anything for bytes that are not theirs
        raise DataError(
            f"{path} cannot be read as a PNG image ({error}). Copy it again from the source as PNG, or remove it."
        ) from error


def grey_channel(image, path):
    """One 8-bit channel: knees come as three equal ones."""
    transparent = "transparency" in image.info  # one of its colours is (tRNS), which the mode does not tell
    if image.mode == "RGB" and not transparent:
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    if image.mode != "L" or transparent:
        raise DataError(
            f"{path} is not an 8-bit grey image (its mode is {image.mode}{' with transparency' * transparent}). "
            "Convert it to 8-bit grey, or move it elsewhere if it is no MRI slice."
        )
    return image


def resized(image, image_size, resize="pad"):
    """A square `PIL.Image.Image` of image_size pixels a side; built up in notebooks/01_explore_data.ipynb.

    "pad" adds black bars to the shorter side, so that shapes stay true. "squash" scales both sides, as published for
    knees: 260x228 to 128x128 makes them 14 % taller. Both smooth first, so that fine texture does not turn into false
    patterns (aliasing).
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


def check_size(path, size, image_size):
    """Refuse slices of `size` pixels that would have to be enlarged."""
    if max(size) < image_size:
        raise DataError(
            f"{path} has {size[0]}x{size[1]} pixels; expected at least {image_size} on the longer side. Choose a "
            "smaller image_size."
        )


def check_label_maps(files):
    """Refuse {SliceName: path} with a scan of few grey values: a label map under the names of slices."""
    scans = groupby(files, key=lambda name: (name.subject, name.scan))
    with ThreadPoolExecutor() as pool:  # PNG decoding releases the GIL, so threads help
        list(pool.map(check_scan, [[files[name] for name in names] for _, names in scans]))


def check_scan(paths):
    """Refuse the slices of a scan that have few grey values altogether; flat pictures, such as black ones, pass."""
    middle = len(paths) // 2
    values = set()
    for path in (*paths[middle:], *paths[:middle]):  # the first one is enough, unless it is nearly black
        found = np.flatnonzero(grey_channel(open_image(path), path).histogram()).tolist()
        values.update(found if len(found) > 1 else [])
        if len(values) > LABEL_VALUES:
            return
    if values:
        raise DataError(
            f"{paths[middle]} looks like a label map: all slices of its scan have {len(values)} grey values together, "
            f"{min(values)} to {max(values)}. Move label maps elsewhere, they must not be trained on; of a dark scan, "
            "stretch the grey levels."
        )


def check_grey_levels(splits):
    """Refuse {name: Split} with a split of flat pictures, of one picture again and again, or of too little contrast."""
    for name, split in splits.items():
        images = split.images
        where = f"The images to {name} in {split.paths[0].parent} ({split.paths[0].name}, ..., {len(images)} in all)"
        # A flat picture between black bars still has equal rows or equal columns.
        if not any(np.ptp(image, axis=0).any() and np.ptp(image, axis=1).any() for image in images):
            raise DataError(f"{where} are black or flat. Copy or cut them again, or put other subjects there.")
        if len(images) > (name != "train") and all(np.array_equal(image, images[0]) for image in images):
            raise DataError(f"{where} are one and the same. Add others: training takes two different ones at least.")
        counts = sum(np.bincount(image.ravel(), minlength=256) for image in images[:: len(images) // 256 + 1])
        counts[0] = 0  # black bars and air
        low, high = np.searchsorted(counts.cumsum(), counts.sum() * np.array([0.005, 0.995]))
        if high - low < LEAST_CONTRAST:
            seen = f"{where} have grey levels from {low} to {high} only, apart from black: too little contrast"
            raise DataError(f"{seen} to train on. Stretch those of all files alike, so that the brightest are 255.")


def check_copies(splits):
    """Refuse {name: Split} with one picture in two splits, unless few grey values make it alike by chance."""
    seen = {}  # by hash, for a second copy of all images might not fit into memory
    for name, split in splits.items():
        for number, image in enumerate(split.images):
            other_name, other = seen.setdefault(hash(image.tobytes()), (name, number))
            alike = other_name != name and np.array_equal(image, splits[other_name].images[other])
            if alike and len(np.unique(image)) > LABEL_VALUES:
                raise DataError(
                    f"{splits[other_name].paths[other]} and {split.paths[number]} are the same picture in different "
                    "splits. Find out whose it is and remove the other: all slices of a subject must be in one split, "
                    "under one number."
                )
