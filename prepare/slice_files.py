"""The files that cutting writes: in which folder slices go, which of them are there, and how they are written whole."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gan_utils import DataError, short_path, slices
from gan_utils.data import DATASETS, PICTURE_MARK
from gan_utils.data import TABLE_OF_CUT_SLICES as TABLE
from prepare.cutting import CUTS
from prepare.pictures import mark_pictures
from prepare.rows import size_of, write_table

UNFINISHED = ".unfinished_"  # a hidden folder, which the loader passes over


class Job(NamedTuple):
    """What one call has to do."""

    source: Path
    subjects: dict[str, str]  # {volume: subject}
    experiment: str
    folder: Path  # that gets the slices
    noun: str  # volume or picture
    slices: int  # that each of them becomes
    read: Callable  # path -> uint8 (slices, height, width)


def find_folder(to, experiment, noun):
    """The folder that gets the slices.

    Raises:
        DataError: it holds slices that were not made here.
    """
    dataset = DATASETS[experiment]
    folder = slices.find_folder(to, dataset) or to / dataset.folder
    if not (folder / TABLE).exists() and next(folder.rglob("*.png"), None):
        raise DataError(
            f"{folder} holds slices already, and no {TABLE} says whose they are. Move them elsewhere, or choose "
            "another folder (TO): one subject must not get into two splits."
        )
    if (folder / TABLE).exists() and (folder / PICTURE_MARK).exists() != (noun == "picture"):
        raise DataError(f"{folder} holds slices that were not made from {noun}s. Choose another folder (TO).")
    return folder


def make_folders(job, rows):
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.noun == "picture":
        mark_pictures(job.folder)
    write_table(job.folder, rows)  # before any slice: the next call will know the folder again
    for name in (DATASETS[job.experiment].split_folders or {}).values():
        (job.folder / name).mkdir(exist_ok=True)
    for leftover in job.folder.rglob(f"{UNFINISHED}*"):  # of a call that was killed
        shutil.rmtree(leftover)


def check_same_file(job, row):
    """Refuse a volume that has another size than when it was cut."""
    path = job.source / row.volume
    if row.bytes != size_of(path):
        raise DataError(
            f"{path} is another file than the one of this name in {short_path(job.folder / TABLE)}. Cut other subjects "
            f"into another folder (TO). If the same volume was corrected, write {size_of(path)} as its bytes there, "
            f"and delete its slices ({row.name}{row.first}...)."
        )


def is_cut(job, row):
    """Whether all slices of a volume are there."""
    return all(path.exists() for path in slice_paths(job, row))


def slice_paths(job, row):
    """Where the slices of a volume are or will be, in the order of `cut_volume`."""
    place = job.folder / DATASETS[job.experiment].split_folders[row.split] if row.split else job.folder
    ending = CUTS[job.experiment].ending
    return [place / f"{row.name}{number}{ending}" for number in range(row.first, row.first + job.slices)]


def write_slices(pictures, paths):
    """Write pictures as 8-bit grey PNG; until all are written they are in a hidden folder."""
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=paths[0].parent) as unfinished:
        hidden = [Path(unfinished) / path.name for path in paths]
        for picture, path in zip(pictures, hidden, strict=True):
            Image.fromarray(picture).save(path)
        for path, place in zip(hidden, paths, strict=True):
            path.replace(place)
