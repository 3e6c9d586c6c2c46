"""Folder layouts: what file names say, and that nobody is ever in two splits."""

import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import make_akoa_folder
from gan_utils.layouts import (
    AKOA_NAME,
    DataError,
    Slice,
    find_akoa_folder,
    list_akoa_splits,
    list_oasis_splits,
    read_akoa_name,
    read_oasis_name,
)

SIDES = {
    "RIGHT": ("RIGHT", "Right", "right", "R_I_G_H_T"),
    "LEFT": ("LEFT", "Left", "left", "L_E_F_T"),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png", (9014797, 0, "RIGHT")),
        ("OAI9896743_BaseLine_3de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png", (9896743, 0, "RIGHT")),
        ("OAI9961728_BaseLine_101de3d1_SAG_3D_DESS_WE_LEFT.nii.gz_4.png", (9961728, 4, "LEFT")),
        ("OAI9961728_BaseLine_2_de3d1_SAG_3D_DESS_WE_L_E_F_T.nii.gz_39.png", (9961728, 39, "LEFT")),
        ("OAI0000001_BaseLine_12345678_de3d1_SAG_3D_DESS_WE_right.nii.gz_7.png", (1, 7, "RIGHT")),
    ],
)
def test_knee_names_are_read(name, expected):
    read = read_akoa_name(name)
    assert (read.person, read.number, read.side) == expected
    assert read.scan in name


@pytest.mark.parametrize(
    "name",
    [
        "case_001_slice_0.nii.png",
        "OAI_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png",
        "OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_MIDDLE.nii.gz_0.png",
        "OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png.png",
        "OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_.png",
        "mask_OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png",
    ],
)
def test_other_names_are_not_taken_for_knees(name):
    assert read_akoa_name(name) is None


@pytest.mark.parametrize("name", ["seg_001_slice_0.nii.png", "case_001.nii.png", "case_001_slice_0.png", "case_x"])
def test_other_names_are_not_taken_for_brains(name):
    assert read_oasis_name(name) is None


@given(st.text() | st.from_regex(r"case_\d+_slice_\d+\.nii\.png") | st.from_regex(AKOA_NAME))
@example(f"case_{9:05000d}_slice_0.nii.png")
@example(f"OAI{9:05000d}_BaseLine_3_de3d1_SAG_3D_DESS_WE_LEFT.nii.gz_0.png")
@example("case_٣_slice_1.nii.png")
def test_any_text_is_a_slice_or_none(text):
    for read in (read_oasis_name, read_akoa_name):
        name = read(text)
        assert name is None or np.array([name.person, name.number]).dtype == np.int64


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(0, 9))
def test_every_brain_is_read(person, number, zeros):
    name = f"case_{'0' * min(zeros, 18 - len(str(person)))}{person}_slice_{number}.nii.png"
    assert read_oasis_name(name) == Slice(person, "", number, "")


@st.composite
def knee_names(draw, most_patients=9_999_999):
    """(file name, what it says) in any of the spellings."""
    patient, series = draw(st.integers(0, most_patients)), draw(st.integers(0, 10**9))
    number, side = draw(st.integers(0, 159)), draw(st.sampled_from(["RIGHT", "LEFT"]))
    spelling, underscore = draw(st.sampled_from(SIDES[side])), draw(st.sampled_from(["", "_"]))
    scan = f"{series}{underscore}de3d1_SAG_3D_DESS_WE_{spelling}"
    name = f"OAI{patient:07d}_BaseLine_{scan}.nii.gz_{number}.png"
    return name, Slice(patient, scan, number, side)


@given(knee_names())
def test_every_spelling_of_a_knee_is_read(named):
    name, expected = named
    assert read_akoa_name(name) == expected


@given(knee_names(), st.integers(0, 80), st.characters())
def test_a_name_with_one_other_character_is_another_slice_or_none(named, place, character):
    name, expected = named
    place = min(place, len(name) - 1)
    other = name[:place] + character + name[place + 1 :]
    assert other == name or read_akoa_name(other) != expected


# Few patients, so that most of them have several scans, of both sides and in several spellings.
folders = st.lists(knee_names(most_patients=5), min_size=1, max_size=40, unique_by=lambda named: named[1])


@given(folders, st.integers(0, 2**32), st.integers(1, 2))
def test_no_patient_is_ever_in_two_splits(named, seed, held_out):
    """Made-up folders of all spellings: all slices are used once, and all of a patient in one split."""
    patients = {expected.person for _, expected in named}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, _ in named:
            (folder / name).touch()
        if len(patients) < 2 * held_out + 1:
            with pytest.raises(DataError, match=f"slices of {len(patients)} patient.*At least {2 * held_out + 1}"):
                list_akoa_splits(folder, seed, held_out)
            return
        splits = list_akoa_splits(folder, seed, held_out)
    train, validate, test = ({name.person for name in splits[split]} for split in ("train", "validate", "test"))
    assert not train & validate
    assert not train & test
    assert not validate & test
    assert len(validate) == len(test) == held_out
    assert train | validate | test == patients
    assert sorted(chain(*splits.values())) == sorted(expected for _, expected in named)
    for files in splits.values():
        assert list(files) == sorted(files)


def test_the_seed_chooses_the_held_out_patients(akoa_folder):
    def held_out(seed):
        splits = list_akoa_splits(akoa_folder, seed)
        return tuple(next(iter(splits[split])).person for split in ("validate", "test"))

    assert held_out(1) == held_out(1)
    assert len({held_out(seed) for seed in range(30)}) > 10


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_knee_folder_is_found_at_every_nesting(tmp_path, depth):
    nested = tmp_path.joinpath("my knees", *["AKOA_Analysis"] * depth)
    make_akoa_folder(nested)
    assert find_akoa_folder(tmp_path / "my knees") == nested


def test_folder_without_knees_is_not_found(tmp_path):
    (tmp_path / "case_001_slice_0.nii.png").touch()
    assert find_akoa_folder(tmp_path) is None


def test_one_patient_cannot_be_split(tmp_path):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", patients=(1,))
    with pytest.raises(DataError, match=r"slices of 1 patient \(.*: 1\. At least 3 are needed"):
        list_akoa_splits(folder, seed=1)


def test_unknown_names_among_knees_are_listed(akoa_folder):
    for name in ("screenshot.png", "OAI1_BaseLine_3_de3d1_SAG_3D_DESS_WE_MIDDLE.nii.gz_0.png"):
        (akoa_folder / name).touch()
    with pytest.raises(DataError, match=r"2 PNG files with unknown names: OAI1_BaseLine.*MIDDLE.*screenshot"):
        list_akoa_splits(akoa_folder, seed=1)


def test_two_spellings_of_a_scan_are_two_scans_of_one_patient(akoa_folder):
    """Whether they are one scan or two cannot be told from the names; the patient is the same either way."""
    (akoa_folder / "OAI0000011_BaseLine_3de3d1_SAG_3D_DESS_WE_R_I_G_H_T.nii.gz_2.png").touch()
    splits = list_akoa_splits(akoa_folder, seed=1)
    assert len([name for name in chain(*splits.values()) if name.person == 11]) == 4


def test_brain_splits_are_those_of_the_folders(oasis_folder):
    splits = list_oasis_splits(oasis_folder)
    assert {split: {name.person for name in files} for split, files in splits.items()} == {
        "train": {1, 2, 10},
        "validate": {402, 403},
        "test": {441},
    }
