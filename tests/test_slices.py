"""What the names of slices say, that nobody is ever in two splits, and how slices become square."""

import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from conftest import make_akoa_folder
from gan_utils import DataError
from gan_utils.data import DATASETS
from gan_utils.slices import SliceName, find_folder, list_splits, read_name, resized

BRAIN, KNEE = DATASETS["brain"], DATASETS["knee"]
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
    read = read_name(name, KNEE.name_pattern)
    assert (read.subject, read.number, read.side) == expected
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
    assert read_name(name, KNEE.name_pattern) is None


@pytest.mark.parametrize("name", ["seg_001_slice_0.nii.png", "case_001.nii.png", "case_001_slice_0.png", "case_x"])
def test_other_names_are_not_taken_for_brains(name):
    assert read_name(name, BRAIN.name_pattern) is None


@given(st.text() | st.from_regex(r"case_\d+_slice_\d+\.nii\.png") | st.from_regex(KNEE.name_pattern))
@example(f"case_{9:05000d}_slice_0.nii.png")
@example(f"OAI{9:05000d}_BaseLine_3_de3d1_SAG_3D_DESS_WE_LEFT.nii.gz_0.png")
@example("case_٣_slice_1.nii.png")
def test_any_text_is_a_slice_or_none(text):
    for dataset in DATASETS.values():
        name = read_name(text, dataset.name_pattern)
        assert name is None or np.array([name.subject, name.number]).dtype == np.int64


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(0, 9))
def test_every_brain_is_read(subject, number, zeros):
    name = f"case_{'0' * min(zeros, 18 - len(str(subject)))}{subject}_slice_{number}.nii.png"
    assert read_name(name, BRAIN.name_pattern) == SliceName(subject, "", number, "")


@st.composite
def knee_names(draw, most_patients=9_999_999):
    """(file name, what it says) in any of the spellings."""
    patient, series = draw(st.integers(0, most_patients)), draw(st.integers(0, 10**9))
    number, side = draw(st.integers(0, 159)), draw(st.sampled_from(["RIGHT", "LEFT"]))
    spelling, underscore = draw(st.sampled_from(SIDES[side])), draw(st.sampled_from(["", "_"]))
    scan = f"{series}{underscore}de3d1_SAG_3D_DESS_WE_{spelling}"
    name = f"OAI{patient:07d}_BaseLine_{scan}.nii.gz_{number}.png"
    return name, SliceName(patient, scan, number, side)


@given(knee_names())
def test_every_spelling_of_a_knee_is_read(named):
    name, expected = named
    assert read_name(name, KNEE.name_pattern) == expected


@given(knee_names(), st.integers(0, 80), st.characters())
def test_a_name_with_one_other_character_is_another_slice_or_none(named, place, character):
    name, expected = named
    place = min(place, len(name) - 1)
    other = name[:place] + character + name[place + 1 :]
    assert other == name or read_name(other, KNEE.name_pattern) != expected


# Few patients, so that most of them have several scans, of both sides and in several spellings.
folders = st.lists(knee_names(most_patients=5), min_size=1, max_size=40, unique_by=lambda named: named[1])


@given(folders, st.integers(0, 2**32), st.sampled_from([None, 1, 2]))
def test_no_patient_is_ever_in_two_splits(named, seed, held_out):
    """Made-up folders of all spellings: all slices are used once, and all of a patient in one split."""
    patients = {expected.subject for _, expected in named}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, _ in named:
            (folder / name).touch()
        expected = held_out or max(len(patients) // 5, 1)
        if len(patients) < 2 * expected + 1:
            with pytest.raises(DataError, match=f"slices of {len(patients)} patient.*At least {2 * expected + 1}"):
                list_splits(folder, KNEE, seed, held_out)
            return
        splits = list_splits(folder, KNEE, seed, held_out)
    train, validate, test = ({name.subject for name in splits[split]} for split in ("train", "validate", "test"))
    assert not train & validate
    assert not train & test
    assert not validate & test
    assert len(validate) == len(test) == expected
    assert train | validate | test == patients
    assert sorted(chain(*splits.values())) == sorted(expected for _, expected in named)
    for files in splits.values():
        assert list(files) == sorted(files)


def test_the_seed_chooses_the_held_out_patients(akoa_folder):
    def held_out(seed):
        splits = list_splits(akoa_folder, KNEE, seed)
        return tuple(next(iter(splits[split])).subject for split in ("validate", "test"))

    assert held_out(1) == held_out(1)
    assert len({held_out(seed) for seed in range(30)}) > 10


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_knee_folder_is_found_at_every_nesting(tmp_path, depth):
    nested = tmp_path.joinpath("my knees", *["AKOA_Analysis"] * depth)
    make_akoa_folder(nested)
    assert find_folder(tmp_path / "my knees", KNEE) == nested


def test_folder_without_knees_is_not_found(tmp_path):
    (tmp_path / "case_001_slice_0.nii.png").touch()
    assert find_folder(tmp_path, KNEE) is None


def test_one_patient_cannot_be_split(tmp_path):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", patients=(1,))
    with pytest.raises(DataError, match=r"slices of 1 patient: 1\. At least 3 are needed"):
        list_splits(folder, KNEE, seed=1)


def test_unknown_names_among_knees_are_listed(akoa_folder):
    for name in ("screenshot.png", "OAI1_BaseLine_3_de3d1_SAG_3D_DESS_WE_MIDDLE.nii.gz_0.png"):
        (akoa_folder / name).touch()
    with pytest.raises(DataError, match=r"2 PNG files with unknown names: OAI1_BaseLine.*MIDDLE.*screenshot"):
        list_splits(akoa_folder, KNEE, seed=1)


def test_two_spellings_of_a_scan_are_two_scans_of_one_patient(akoa_folder):
    """Whether they are one scan or two cannot be told from the names; the patient is the same either way."""
    (akoa_folder / "OAI0000011_BaseLine_3de3d1_SAG_3D_DESS_WE_R_I_G_H_T.nii.gz_2.png").touch()
    splits = list_splits(akoa_folder, KNEE, seed=1)
    assert len([name for name in chain(*splits.values()) if name.subject == 11]) == 4


def test_brain_splits_are_those_of_the_folders(oasis_folder):
    splits = list_splits(oasis_folder, BRAIN, seed=1)
    assert {split: {name.subject for name in files} for split, files in splits.items()} == {
        "train": {1, 2, 10},
        "validate": {402, 403},
        "test": {441},
    }


def wide_picture():
    """A disc of 100 pixels across in a picture of 260x228."""
    y, x = np.mgrid[:228, :260]
    return Image.fromarray((255 * ((x - 129.5) ** 2 + (y - 113.5) ** 2 < 50**2)).astype(np.uint8))


def extent(picture):
    inside = np.asarray(picture) > 127
    return int(inside.any(axis=0).sum()), int(inside.any(axis=1).sum())


def test_padding_keeps_shapes_and_squashing_does_not():
    width, height = extent(resized(wide_picture(), 128, "pad"))
    assert abs(width - height) <= 1
    assert width == pytest.approx(100 * 128 / 260, abs=1)
    width, height = extent(resized(wide_picture(), 128, "squash"))
    assert height / width == pytest.approx(260 / 228, abs=0.04)


def test_padding_is_black_bars_above_and_below():
    padded = np.asarray(resized(Image.new("L", (260, 228), 200), 130, "pad"))
    assert (padded[:7] == 0).all()
    assert (padded[-7:] == 0).all()
    assert (padded[9:-9] == 200).all()


def test_shrinking_does_not_alias():
    """Stripes finer than the new pixels become even grey."""
    stripes = np.tile(np.array([0, 255], np.uint8), (260, 130))
    shrunk = np.asarray(resized(Image.fromarray(stripes), 96), float)
    assert shrunk.std() < 8
    assert shrunk.mean() == pytest.approx(127.5, abs=2)
