"""The two published folder layouts: where the slices lie, what their names say, and who belongs to which split."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

OASIS_FOLDER = "keras_png_slices_data"
OASIS_SPLITS = {split: f"keras_png_slices_{split}" for split in ("train", "validate", "test")}
# Names come from anywhere: numbers of more than 18 digits do not fit an array of int64, nor do digits of other scripts.
OASIS_NAME = re.compile(r"case_(?P<person>\d{1,18})_slice_(?P<slice>\d{1,18})\.nii\.png", re.ASCII)
OASIS_TREE = """Expected:
  keras_png_slices_data/
    keras_png_slices_train/       case_001_slice_0.nii.png, case_001_slice_1.nii.png, ...
    keras_png_slices_validate/    the same for other people
    keras_png_slices_test/        the same for other people
data/README.md says where the slices come from."""

AKOA_FOLDER = "AKOA_Analysis"
# The series number may be of any length, with or without an underscore after it; the side is spelt in many ways.
AKOA_NAME = re.compile(
    r"OAI(?P<person>\d{1,18})_BaseLine_(?P<scan>\d+_?de3d1_SAG_3D_DESS_WE_"
    r"(?P<side>(?i:RIGHT|LEFT|R_I_G_H_T|L_E_F_T)))\.nii\.gz_(?P<slice>\d{1,18})\.png",
    re.ASCII,
)
AKOA_TREE = """Expected:
  AKOA_Analysis/    OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png, ..._1.png, ...
data/README.md says where the slices come from."""


class DataError(ValueError):
    """A data folder or an image in it cannot be used; the text names it and says what to do."""


class Slice(NamedTuple):
    """What a file name says. Slices sort by person, then scan, then number."""

    person: int  # the case number of OASIS, the number after OAI of AKOA
    scan: str  # tells a person's scans apart: series and side as AKOA writes them; empty for OASIS, one scan a person
    number: int  # place in the scan, from 0
    side: str  # LEFT or RIGHT knee; empty for OASIS


# ---- OASIS brains: a folder for each split -----------------------------------------------------------------


def find_oasis_folder(root):
    """The folder below `root` that holds the splits: itself, or keras_png_slices_data, nested once or not."""
    for folder in (root, root / OASIS_FOLDER, root / OASIS_FOLDER / OASIS_FOLDER):
        if any((folder / split).is_dir() for split in OASIS_SPLITS.values()):
            return folder
    # An OASIS folder without splits is a broken copy: name it instead of passing it over.
    return root / OASIS_FOLDER if (root / OASIS_FOLDER).is_dir() else None


def list_oasis_splits(folder, seed=None, held_out=None):
    """{"train": {Slice: path}, "validate": ..., "test": ...} as the folders say, which need no other argument.

    Raises:
        DataError: a split is missing or empty, a name is unknown, or a person is in two splits.
    """
    splits = {split: list_slices(folder / name, read_oasis_name, OASIS_TREE) for split, name in OASIS_SPLITS.items()}
    seen = {}
    for split, files in splits.items():
        for person in {name.person for name in files}:
            if person in seen:
                raise DataError(
                    f"Case {person} is both in {OASIS_SPLITS[seen[person]]} and in {OASIS_SPLITS[split]}. "
                    "Keep all slices of a person in one folder."
                )
            seen[person] = split
    return splits


def read_oasis_name(name):
    """The `Slice` that an OASIS file name stands for, or None.

    Example:
        >>> read_oasis_name("case_001_slice_12.nii.png").number
        12
    """
    match = OASIS_NAME.fullmatch(name)
    return match and Slice(int(match["person"]), "", int(match["slice"]), "")


# ---- AKOA knees: one folder, split here --------------------------------------------------------------------


def find_akoa_folder(root):
    """The folder below `root` that holds the slices: itself, or AKOA_Analysis, nested once or not."""
    for folder in (root / AKOA_FOLDER / AKOA_FOLDER, root / AKOA_FOLDER):
        if folder.is_dir():
            return folder
    return root if next(root.glob("OAI*.png"), None) else None


def list_akoa_splits(folder, seed, held_out=1):
    """{"train": {Slice: path}, "validate": ..., "test": ...}: some patients validate, as many test, the rest train.

    Args:
        folder: from `find_akoa_folder`.
        seed: chooses the patients that are held out.
        held_out: patients to validate, and again to test; as published 1.

    Raises:
        DataError: too few patients, no slices, or an unknown name.
    """
    files = list_slices(folder, read_akoa_name, AKOA_TREE)
    patients = sorted({name.person for name in files})
    needed = 2 * held_out + 1
    if len(patients) < needed:
        raise DataError(
            f"{folder} holds slices of {len(patients)} patient{'s' * (len(patients) > 1)} (the number after OAI): "
            f"{', '.join(map(str, patients))}. At least {needed} are needed, because a patient may be in one split "
            f"only: {held_out} to validate, {held_out} to test, the others to train (held_out_patients={held_out})."
        )
    chosen = np.random.default_rng(seed).choice(patients, 2 * held_out, replace=False)
    split_of = dict.fromkeys(chosen[:held_out], "validate") | dict.fromkeys(chosen[held_out:], "test")
    splits = {"train": {}, "validate": {}, "test": {}}
    for name, path in files.items():
        splits[split_of.get(name.person, "train")][name] = path
    return splits


def read_akoa_name(name):
    """The `Slice` that an AKOA file name stands for, or None.

    The patient is the number after OAI and nothing else: a person has scans of several series, and of both sides.

    Example:
        >>> read_akoa_name("OAI9961728_BaseLine_101de3d1_SAG_3D_DESS_WE_L_E_F_T.nii.gz_4.png")
        Slice(person=9961728, scan='101de3d1_SAG_3D_DESS_WE_L_E_F_T', number=4, side='LEFT')
    """
    match = AKOA_NAME.fullmatch(name)
    if not match:
        return None
    side = match["side"].replace("_", "").upper()
    return Slice(int(match["person"]), match["scan"], int(match["slice"]), side)


# ---- both --------------------------------------------------------------------------------------------------


def why_no_folder(path):
    """What is wrong with a path that `is_dir` finds no folder at, in words."""
    if path.exists():
        return "is not a folder"
    return "is a link that leads nowhere" if path.is_symlink() else "does not exist"


def list_slices(folder, read_name, tree):
    """{Slice: path} of the PNG files in a folder, sorted by person, scan and slice number.

    Sorting by name would put slice 10 before slice 2. Hidden files and files that are no PNG are passed over.

    Args:
        folder: `pathlib.Path`.
        read_name: a file name -> its `Slice`, or None where the name is not of the layout.
        tree: the layout in words, for the error text.

    Raises:
        DataError: the folder is missing or empty, a name is unknown, or a slice is there twice.
    """
    if not folder.is_dir():
        raise DataError(f"The folder {folder} {why_no_folder(folder)}.\n{tree}")
    files: dict[Slice, Path] = {}
    strangers = []
    for path in folder.iterdir():
        if path.suffix.lower() != ".png" or path.name.startswith("."):
            continue
        name = read_name(path.name)
        if name is None:
            strangers.append(path.name)
        elif name in files:
            raise DataError(f"{folder} holds one slice twice: {files[name].name} and {path.name}. Remove one.")
        else:
            files[name] = path
    if strangers:
        raise DataError(
            f"{folder} holds {len(strangers)} PNG files with unknown names: {', '.join(sorted(strangers)[:5])}"
            f"{', ...' if len(strangers) > 5 else ''}. Rename them, or move them elsewhere: label maps (seg_...) and "
            f"other pictures must not be trained on.\n{tree}"
        )
    if not files:
        raise DataError(f"{folder} holds no slices.\n{tree}")
    return dict(sorted(files.items()))
