"""Tests of the knee phantoms: small pictures and few patients, so that all of them take seconds."""

import re

import numpy as np
import pytest
from PIL import Image

from prepare import knee_phantom
from prepare.knee_phantom import SLICES_PER_KNEE, paint_knee, write_knee_phantoms

pytestmark = pytest.mark.slow

SIZE = 128
SHAPE = 114, 130


@pytest.fixture(scope="module")
def knees():
    return [paint_knee(patient, SIZE) for patient in range(1, 7)]


def likeness(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def mean_likeness_of_strangers(knees):
    return np.mean([likeness(a, b) for n, a in enumerate(knees) for b in knees[:n]])


def test_shape_type_and_range(knees):
    for slices in knees:
        assert slices.shape == (SLICES_PER_KNEE, *SHAPE)
        assert slices.dtype == np.uint8
        assert (slices.max(axis=(1, 2)) > 90).all()  # every slice shows something bright
        assert slices.std() > 20


@pytest.mark.parametrize(
    ("size", "shape"), [(32, (57, 65)), (64, (57, 65)), (65, (114, 130)), (129, (228, 260)), (260, (228, 260))]
)
def test_pictures_have_the_proportions_of_akoa(size, shape):
    assert paint_knee(1, size).shape == (SLICES_PER_KNEE, *shape)


def test_same_knee_twice_is_the_same(knees):
    np.testing.assert_array_equal(paint_knee(1, SIZE), knees[0])


def test_patients_and_seeds_differ(knees):
    others = [*knees[1:], paint_knee(1, SIZE, seed=2)]
    for other in others:
        assert likeness(knees[0], other) < 0.8
        assert np.abs(knees[0].astype(int) - other).mean() > 8


def test_two_knees_of_a_patient_are_mirrored_and_alike(knees):
    left = [paint_knee(patient, SIZE, side="LEFT") for patient in range(1, 7)]
    mirrored = np.mean([likeness(a, b[..., ::-1]) for a, b in zip(knees, left, strict=True)])
    unmirrored = np.mean([likeness(a, b) for a, b in zip(knees, left, strict=True)])
    assert mirrored > mean_likeness_of_strangers(knees) + 0.05
    assert mirrored > unmirrored + 0.1


def test_second_visit_is_the_same_knee(knees):
    for first in range(3):
        again = paint_knee(first + 1, SIZE, visit=1)
        assert not np.array_equal(again, knees[first])
        strangers = [likeness(again, other) for n, other in enumerate(knees) if n != first]
        assert likeness(again, knees[first]) > max(strangers) + 0.1


def test_neighbouring_slices_are_alike(knees):
    for slices in knees:
        neighbours = np.mean([likeness(slices[n], slices[n + 1]) for n in range(0, 39, 6)])
        assert neighbours > 0.9
        assert likeness(slices[0], slices[39]) < neighbours - 0.2  # the thigh is not the joint


@pytest.mark.parametrize("side", ["RIGHT", "LEFT"])
def test_same_anatomy_at_every_size(side):
    large, medium, small = (paint_knee(2, size, side) for size in (256, 128, 64))
    for larger, smaller in ((large, medium), (medium, small)):
        slices, height, width = smaller.shape
        averaged = larger.reshape(slices, height, 2, width, 2).mean(axis=(2, 4))
        assert likeness(averaged, smaller) > 0.95


def painted_with_shapes(monkeypatch, patient):
    """The knee without noise, and masks of its parts; all (slice, row, column)."""
    cuts = []
    paint_slice = knee_phantom.paint_slice
    monkeypatch.setattr(knee_phantom, "paint_slice", lambda cut: cuts.append(cut) or paint_slice(cut))
    picture = paint_knee(patient, SIZE)
    monkeypatch.undo()
    femur, leg = (
        np.stack([shape(cut) for cut in cuts]) for shape in (knee_phantom.femur_distance, knee_phantom.leg_distance)
    )
    patella = np.stack([knee_phantom.patella_distance(cut)[0] for cut in cuts])
    scanned = np.zeros(SHAPE, bool)
    scanned[:, 12:-12] = True  # neither the empty margin nor what is folded over
    return {
        "picture": picture,
        "marrow": femur < -4,
        "patella": scanned & (patella < -2),
        "air": scanned & (leg > 5),
        "near femur": (femur > 0.6) & (femur < 1.6),
        "x": np.stack([cut.x for cut in cuts]),
        "y": np.stack([cut.y for cut in cuts]),
    }


@pytest.mark.parametrize("patient", [1, 2, 3])
def test_tones_of_the_tissues(monkeypatch, patient):
    part = painted_with_shapes(monkeypatch, patient)
    picture = part["picture"].astype(float)
    low = np.arange(SLICES_PER_KNEE)[:, None, None] >= 22
    on_trochlea = part["near femur"] & low & (part["y"] > 12) & (np.abs(part["x"]) < 15)
    cartilage, marrow, air = (picture[mask].mean() for mask in (on_trochlea, part["marrow"], part["air"]))
    muscle = np.mean([np.percentile(rows, 75) for rows in picture[low[:, 0, 0], :20]])  # behind the knee
    assert marrow < 30
    assert air < 30
    assert cartilage > marrow + 30
    assert muscle > marrow + 30
    assert picture[part["patella"]].mean() < cartilage - 20


def test_patella_is_at_the_bottom_and_ends(monkeypatch):
    patella = painted_with_shapes(monkeypatch, 2)["patella"]
    rows = np.nonzero(patella)[1]
    assert rows.min() > SHAPE[0] / 2
    area = patella.sum(axis=(1, 2))
    assert area[:15].max() > 100  # px
    assert area[-3:].max() == 0


def test_femur_widens_and_parts_into_condyles(monkeypatch):
    marrow = painted_with_shapes(monkeypatch, 4)["marrow"]
    width = [np.ptp(np.flatnonzero(mask.any(axis=0))) for mask in marrow]
    assert width[25] > 1.3 * width[0]

    def has_notch(mask):  # the middle of its back edge is deeper than both sides
        first = np.where(mask.any(axis=0), mask.argmax(axis=0), SHAPE[0])
        columns = np.flatnonzero(mask.any(axis=0))
        left, middle, right = np.array_split(first[columns], 3)
        return middle.max() > max(left.min(), right.min()) + 12  # px

    assert not has_notch(marrow[0])
    assert has_notch(marrow[34])


def test_margin_is_empty(knees):
    for slices in knees:
        assert slices[..., :5].max() == slices[..., -5:].max() == 0
        assert slices[:, -30:, 5:-5].mean() > 5


NAME = r"OAI(\d{7})_BaseLine_(\d+)_?de3d1_SAG_3D_DESS_WE_([A-Za-z_]+)"


def test_scans_of_many_patients():
    scans = [scan for patient in range(1, 401) for scan in knee_phantom.scans_of(patient, seed=1)]
    assert 560 < len(scans) < 640  # about half of the patients have two
    assert len({name for name, _, _ in scans}) == len(scans)
    assert 0.45 < np.mean([side == "LEFT" for _, side, _ in scans]) < 0.55
    spellings = set()
    for name, side, _ in scans:
        spelling = re.fullmatch(NAME, name).group(3)
        assert spelling.replace("_", "").upper() == side
        spellings.add(spelling)
    assert spellings == {"RIGHT", "Right", "right", "R_I_G_H_T", "LEFT", "Left", "left", "L_E_F_T"}
    assert 10 < sum("_de3d1" not in name for name, _, _ in scans) < 150


def test_files_names_and_pictures(tmp_path):
    calls = []
    new = tmp_path / "new" / "knees"
    write_knee_phantoms(new, 32, patients=3, progress=lambda *call: calls.append(call))
    assert calls == [(done, 3) for done in range(1, 4)]
    assert [path.name for path in new.parent.iterdir()] == ["knees"]  # no temporary folder left

    root = new / "AKOA_Analysis"
    mark = (root / "SIMULATED.txt").read_text()
    assert "Digital phantoms" in mark
    assert "No picture here shows a real person" in mark
    assert "write_knee_phantoms(folder, image_size=32, patients=3, seed=1)" in mark
    scans = [scan for patient in (1, 2, 3) for scan in knee_phantom.scans_of(patient, seed=1)]
    files = {f"{name}.nii.gz_{number}.png" for name, _, _ in scans for number in range(SLICES_PER_KNEE)}
    assert {path.name for path in root.iterdir()} == {*files, "SIMULATED.txt"}

    name, side, visit = knee_phantom.scans_of(1, seed=1)[-1]
    with Image.open(root / f"{name}.nii.gz_7.png") as picture:
        assert picture.mode == "RGB"
        channels = np.moveaxis(np.asarray(picture), -1, 0)
    for channel in channels:
        np.testing.assert_array_equal(channel, paint_knee(1, 32, side, visit)[7])


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="32 to 260"):
        paint_knee(1, 31)
    with pytest.raises(ValueError, match="32 to 260"):
        paint_knee(1, 261)
    with pytest.raises(ValueError, match="0 or more"):
        paint_knee(-1, 32)
    with pytest.raises(ValueError, match="RIGHT, LEFT"):
        paint_knee(1, 32, side="right")
    with pytest.raises(ValueError, match="32 to 260"):
        write_knee_phantoms(tmp_path / "knees", 16)
    with pytest.raises(ValueError, match="at least 3:"):
        write_knee_phantoms(tmp_path / "knees", 32, patients=2)
    assert list(tmp_path.iterdir()) == []
