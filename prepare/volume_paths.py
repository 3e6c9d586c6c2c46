"""Paths of volumes: which are to be cut, whom they show, and where the slices of each go."""

import hashlib
import re
from collections import Counter
from itertools import count
from pathlib import Path
from typing import NamedTuple

from gan_utils import DataError
from gan_utils.data import DATASETS
from gan_utils.slices import read_name, why_no_folder
from prepare.cutting import CUTS

SHARES = {"validate": 35 / 354, "test": 17 / 354}  # as published; the others train
VOLUME_ENDINGS = (".nii", ".nii.gz", ".hdr", ".img")
# Words in the names of label maps: aseg, fseg, dseg, seg4, brain_mask, aparc+aseg; not t88_masked_gfc, a scan.
LABEL_MAP = re.compile(r"(?<![a-z])([a-z]*seg(mentations?)?|[a-z]*masks?|labels?|[a-z]*parc|atlas)\d*(?![a-z])", re.I)
# A session of OASIS-1 comes in several versions: the first of these that is there is cut.
OASIS_VERSIONS = ("_t88_gfc", "_t88_masked_gfc", "_sbj_111", "_mpr-1_anon")
OASIS_SESSION = re.compile(r"OAS1_\d{4}_MR\d+")
SIDE = re.compile(r"(?<![a-z])(right|left|r_i_g_h_t|l_e_f_t)(?![a-z])", re.I)
# How a path names a subject: OASIS-1, -2 and -3, BIDS, OAI.
SUBJECT = re.compile(r"OAS[12]_\d{4}|OAS3\d{4}|(?<![A-Za-z0-9])sub-[A-Za-z0-9]+|OAI\d{1,18}")
OWN_NUMBER = {"brain": re.compile(r"OAS1_(\d{4})"), "knee": re.compile(r"OAI(\d{1,18})")}  # kept as it is


class Row(NamedTuple):
    """A line of people.csv: what one volume became."""

    volume: str  # path below the folder that was cut
    bytes: int  # size of the volume, to tell another one of the same name
    subject: str  # as found in the path
    number: int  # case number of OASIS, number after OAI of AKOA
    split: str  # train, validate or test; empty for knees, whose loader splits
    name: str  # what the names of its slices begin with
    first: int  # number of its first slice: slices of a subject's next volume continue the count


# ---- Which volumes, and whose ------------------------------------------------------------------------------


def find_volumes(source):
    """Paths of the volumes below a folder, and {why: paths} of those that are not for training.

    Hidden files and files of other kinds are passed over. Paths are text, relative to `source`, with / between.

    Raises:
        DataError: there are none.
    """
    if not source.is_dir():
        raise DataError(f"The folder {source} {why_no_folder(source)}. Correct FROM.")
    files = {path.relative_to(source) for path in source.rglob("*") if path.name.lower().endswith(VOLUME_ENDINGS)}
    files = {path for path in files if not any(part.startswith(".") for part in path.parts)}
    pairs = {path.with_suffix(".img") for path in files if path.suffix == ".hdr"}  # one volume each
    paths = sorted(path.as_posix() for path in files - pairs)
    labels = [path for path in paths if LABEL_MAP.search(Path(path).name)]
    paths = [path for path in paths if path not in set(labels)]
    sessions = {}
    for path in paths:
        if session := OASIS_SESSION.search(path):
            sessions.setdefault(session[0], []).append(path)
    other_versions = []
    for versions in sessions.values():
        found = [[path for path in versions if version in path] for version in OASIS_VERSIONS]
        best = next(filter(None, found), versions)
        other_versions += [path for path in versions if path not in best]
    paths = [path for path in paths if path not in set(other_versions)]
    if not paths:
        raise DataError(
            f"No volumes in {source}: files ending in {', '.join(VOLUME_ENDINGS)}, in folders of any depth. DICOM "
            "files become NIfTI with dcm2niix."
        )
    left_out = {"label maps by their names": labels, "other versions of OASIS-1 sessions": other_versions}
    return paths, {why: paths for why, paths in left_out.items() if paths}


def subject_of(volume, experiment):
    """Who was scanned, as far as a path says it.

    Example:
        >>> subject_of("disc1/OAS1_0007_MR2/RAW/OAS1_0007_MR2_mpr-1_anon.hdr", "brain")
        'OAS1_0007'
    """
    if match := OWN_NUMBER[experiment].search(volume) or SUBJECT.search(volume):
        return match[0]
    first, *below = volume.split("/")
    if below:
        return first
    stem = re.sub(r"\.(nii(\.gz)?|hdr|img)$", "", first)
    return re.sub(r"[_\W]*$", "", SIDE.sub("", stem)) or stem  # both knees of a patient may be side by side


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


# ---- Where the slices go -----------------------------------------------------------------------------------


def new_row(source, volume, subject, number, rows, subjects, experiment):
    """The `Row` of a volume that is about to be cut.

    Args:
        source: folder that `volume` is a path below.
        volume, subject, number: what to note.
        rows: of what is cut already.
        subjects: how many there are in all.
        experiment: "brain" or "knee".

    Raises:
        DataError: the name of a knee does not say which one it is.
    """
    theirs = [row for row in rows if row.subject == subject]
    if experiment == "knee":
        split, name, first = "", knee_name(source, volume, number, {row.name for row in rows}), 0
    else:
        split = theirs[0].split if theirs else free_split(rows, subjects)
        name, taken = f"case_{number:03d}_slice_", {row.first for row in theirs}
        first = next(first for first in count(0, CUTS[experiment].shape[2]) if first not in taken)
    return Row(volume, size_of(source / volume), subject, number, split, name, first)


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
