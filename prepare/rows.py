"""What each volume becomes: the number and split of its subject, the names of its slices; kept in people.csv."""

import csv
import hashlib
import re
from collections import Counter
from itertools import count
from pathlib import Path
from typing import NamedTuple

from gan_utils import DataError, atomic_write, short_path
from gan_utils.data import DATASETS
from gan_utils.data import TABLE_OF_CUT_SLICES as TABLE
from gan_utils.slices import read_name
from prepare.names import SIDE, published_subjects
from prepare.subjects import key_of

COLUMNS = "volume", "bytes", "person", "number", "split", "name", "first", "source"  # the last is not in older tables
SPLITS = tuple(DATASETS["brain"].split_folders)  # train, validate, test
SHARES = {"validate": 35 / 354, "test": 17 / 354}  # as published; the others train
OWN_NUMBER = {"brain": re.compile(r"OAS1_(\d{4})"), "knee": re.compile(r"OAI(\d{1,18})")}  # kept as it is


class Row(NamedTuple):
    """A line of people.csv: what one volume became."""

    volume: str  # path below the folder that was cut; of a picture likewise
    bytes: int  # size of the volume, to tell another one of the same name
    subject: str  # as found in the path
    number: int  # case number of OASIS, number after OAI of AKOA
    split: str  # train, validate or test; empty for knees, whose loader splits
    name: str  # what the names of its slices begin with
    first: int  # number of its first slice: slices of a subject's next volume continue the count
    source: str = ""  # the folder that was cut


# ---- The table ---------------------------------------------------------------------------------------------


def read_table(folder):
    """The `Row`s of people.csv; none where there is no such file yet.

    Raises:
        DataError: the file was edited so that it cannot be read, or copied in part.
    """
    path = folder / TABLE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        rows = [Row(*line)._replace(bytes=int(line[1]), number=int(line[3]), first=int(line[6])) for line in lines]
        if tuple(header) not in (COLUMNS, COLUMNS[:-1]) or {row.split for row in rows} - {"", *SPLITS}:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}, or a split is not {', '.join(SPLITS)}")
        return rows
    except (ValueError, TypeError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Restore the file, or delete the folder to cut all volumes again."
        ) from error


def write_table(folder, rows):
    with atomic_write(folder / TABLE) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


# ---- Numbers, splits and names -----------------------------------------------------------------------------


def check_rows(rows, source, subjects, folder):
    """The rows of earlier calls, where they and this one agree on whose each volume is.

    Args:
        rows: what the table has.
        source: folder that is cut now.
        subjects: {volume: subject} of this call.
        folder: of the table, for messages.

    Raises:
        DataError: a volume had another subject, or a name such as sub-01 stands for somebody in another folder, too.
    """
    here, table = str(source.resolve()), short_path(folder / TABLE)
    by_source = {}
    for row in rows:
        by_source.setdefault(row.source, []).append(row)
    moved = {place for place, theirs in by_source.items() if was_moved(place, theirs, source)}
    rows = [row._replace(source=here) if row.source in moved else seen_from(here, row) for row in rows]
    alike = {key_of(subject) for subject in subjects.values()}
    for row in rows:
        now = subjects.get(row.volume, row.subject)
        if row.source == here and now != row.subject:
            raise DataError(
                f"{row.volume} is of {row.subject} by {table}, and of {now} now. Say SUBJECTS as you did then, or "
                "cut into another folder (TO)."
            )
        if row.source != here and key_of(row.subject) in alike and not is_unique(row.subject):
            raise DataError(
                f"{row.subject} was cut from {row.source} already, and may be somebody else in {source}. Cut that into "
                "another folder (TO); for one subject, put all volumes below one folder, and cut that into a new TO."
            )
    return rows


def was_moved(place, rows, source):
    """Whether a folder is gone and all that was cut from it is in `source` now; older tables name no folder."""
    return not place or (not Path(place).exists() and all(size_of(source / row.volume) == row.bytes for row in rows))


def seen_from(here, row):
    """The row as a call on the folder `here` writes it, where the volume is in that folder, too."""
    path = Path(row.source) / row.volume
    return row._replace(source=here, volume=path.relative_to(here).as_posix()) if path.is_relative_to(here) else row


def is_unique(subject):
    """Whether a published form says who it is wherever it occurs; sub-01 is somebody in every data set."""
    return published_subjects(subject) == {subject} and not subject.startswith("sub-")


def number_subjects(everyone, rows, experiment):
    """{subject: number}: the number that people.csv has, else that of OASIS-1 or OAI, else the smallest that is free.

    Raises:
        DataError: two subjects would have one number.
    """
    numbers = {row.subject: row.number for row in rows}
    own = {subject: int(match[1]) for subject in everyone if (match := OWN_NUMBER[experiment].fullmatch(subject))}
    for subject, number in own.items():
        taken = [other for other, theirs in {**own, **numbers}.items() if theirs == number and other != subject]
        if taken:
            raise DataError(
                f"{subject} keeps the number {number}, which {taken[0]} has already. Cut them into different folders "
                "(TO)."
            )
    numbers = {**own, **numbers}
    taken = set(numbers.values())
    free = (number for number in count(1) if number not in taken)
    return numbers | dict(zip(sorted(everyone - numbers.keys()), free, strict=False))


def new_row(source, volume, subject, number, rows, subjects, experiment, slices):
    """The `Row` of a volume or picture that is about to be cut.

    Args:
        source: folder that `volume` is a path below.
        volume, subject, number: what to note.
        rows: of what is cut already.
        subjects: how many there are in all.
        experiment: "brain" or "knee".
        slices: how many it becomes; one is a picture.

    Raises:
        DataError: the name of a knee does not say which one it is.
    """
    theirs = [row for row in rows if row.subject == subject]
    if experiment == "knee":
        split, name = "", knee_name(source, volume, number, {row.name for row in theirs if slices > 1})
    else:
        split, name = theirs[0].split if theirs else free_split(rows, subjects), f"case_{number:03d}_slice_"
    taken = {row.first for row in theirs if row.name == name}
    first = next(first for first in count(0, slices) if first not in taken)
    return Row(volume, size_of(source / volume), subject, number, split, name, first, str(source.resolve()))


def knee_name(source, volume, number, taken):
    """What the names of a knee's slices begin with: the name of its volume if it is one of AKOA's, else one like it."""
    path = Path(volume)
    own = f"{path.name.removesuffix('.gz').removesuffix(path.suffix).removesuffix('.nii')}.nii.gz_"
    first_slice = read_name(f"{own}0.png", DATASETS["knee"].name_pattern)
    if first_slice and first_slice.subject == number and own not in taken:
        return own
    # The name of the file first: folders may be called "left" for other reasons.
    sides = {side.replace("_", "").upper() for side in SIDE.findall(path.name) or SIDE.findall(volume)}
    if len(sides) != 1:
        raise DataError(
            f"{source / volume} does not say which knee it is. Put LEFT or RIGHT, and not both, into its name or the "
            "name of its folder."
        )
    (side,) = sides
    names = (f"OAI{number:07d}_BaseLine_{series}_de3d1_SAG_3D_DESS_WE_{side}.nii.gz_" for series in count(1))
    return next(name for name in names if name not in taken)


def free_split(rows, subjects):
    """The split of a new subject: one that is empty yet, else the first that is below its share of all subjects."""
    sizes = Counter({row.subject: row.split for row in rows}.values())
    empty = [split for split in (*SHARES, "train") if not sizes[split]]
    small = [split for split, share in SHARES.items() if sizes[split] < round(share * subjects)]
    return [*empty, *small, "train"][0]


def random_key(subject):
    """A text that follows from the subject's name alone; sorting by it puts subjects into a random order."""
    return hashlib.sha256(subject.encode()).hexdigest()


def size_of(path):
    """Bytes of a volume; of a pair those of the .img, because all .hdr have one size."""
    image = path.with_suffix(".img") if path.suffix == ".hdr" else path
    return image.stat().st_size if image.exists() else 0
