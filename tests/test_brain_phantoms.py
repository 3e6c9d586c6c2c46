"""Tests of the brain phantoms: small pictures and few subjects, so that all of them take seconds."""

import warnings

import numpy as np
import pytest
from PIL import Image

from prepare import brain_phantom
from prepare.brain_phantom import SLICES_PER_SUBJECT, simulate_brain, write_brain_phantoms

SIZE = 64


@pytest.fixture(scope="module")
def subjects():
    return [simulate_brain(subject, SIZE) for subject in range(1, 5)]


def likeness(first, second):
    return np.corrcoef(first.ravel(), second.ravel())[0, 1]


def test_shape_type_and_range(subjects):
    for slices in subjects:
        assert slices.shape == (SLICES_PER_SUBJECT, SIZE, SIZE)
        assert slices.dtype == np.uint8
        assert (slices.max(axis=(1, 2)) > 120).all()  # every slice shows something bright
        assert slices.std() > 30


def test_same_subject_twice_is_the_same(subjects):
    np.testing.assert_array_equal(simulate_brain(1, SIZE), subjects[0])


def test_subjects_and_seeds_differ(subjects):
    others = [*subjects[1:], simulate_brain(1, SIZE, seed=2)]
    for other in others:
        assert likeness(subjects[0], other) < 0.95
        assert np.abs(subjects[0].astype(int) - other).mean() > 5


def test_neighbouring_slices_are_more_alike_than_subjects(subjects):
    neighbours = [likeness(slices[n], slices[n + 1]) for slices in subjects for n in range(0, 31, 6)]
    strangers = [likeness(a[n], b[n]) for a in subjects for b in subjects if a is not b for n in range(0, 31, 6)]
    assert min(neighbours) > np.mean(strangers) + 0.05
    assert np.mean(neighbours) > 0.95


def test_same_anatomy_at_another_size(subjects):
    doubled = simulate_brain(2, 2 * SIZE).reshape(SLICES_PER_SUBJECT, SIZE, 2, SIZE, 2).mean(axis=(2, 4))
    assert likeness(doubled, subjects[1]) > 0.97


def test_size_that_divides_nothing():
    assert simulate_brain(3, 45).shape == (SLICES_PER_SUBJECT, 45, 45)


def test_black_border_and_share_of_black(subjects):
    for slices in subjects:
        border = np.concatenate([slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1]], axis=1)
        assert border.mean() < 10
        assert 0.35 < (slices < 13).mean() < 0.65  # 13 is 5 % of the range


def test_nose_to_the_right(subjects):
    inside = np.mean(subjects, axis=(0, 1)) > 40
    height, width = (np.ptp(np.flatnonzero(inside.any(axis))) for axis in (1, 0))
    assert width > 1.1 * height  # heads are longer than wide
    head, _ = brain_phantom.make_head(np.random.default_rng(3), 0.5, SIZE, 2)
    up, across, forward = head.points  # MNI mm
    assert (up[-1] > up[0]).all()
    assert (across[:, -1] > across[:, 0]).all()
    assert (forward[:, :, -1] > forward[:, :, 0]).all()


def test_white_matter_is_brighter_than_grey_than_fluid(monkeypatch):
    """Mean brightness where the template, bent to the subject, is almost surely one tissue."""
    heads = []
    make_head = brain_phantom.make_head

    def remembering(*arguments):
        heads.append(make_head(*arguments))
        return heads[-1]

    monkeypatch.setattr(brain_phantom, "make_head", remembering)
    template = brain_phantom.load_template()
    for subject in (1, 2):
        picture = simulate_brain(subject, 128)
        head, window = heads[-1]
        picture = picture[:, *window]
        deep = head.head_distance < -30  # mm; basal ganglia and ventricles, not the subject's own folds
        grey, white = (v.sample(head.points) for v in (template.grey_matter, template.white_matter))
        tissue = deep & (head.ventricle_distance > 3)
        fluid_mean = picture[deep & (head.ventricle_distance < -1.5)].mean()
        grey_mean, white_mean = picture[tissue & (grey > 0.9)].mean(), picture[tissue & (white > 0.95)].mean()
        assert fluid_mean + 30 < grey_mean
        assert grey_mean + 30 < white_mean


def test_ventricles_grow_with_age():
    def volume(age):
        head, _ = brain_phantom.make_head(np.random.default_rng(5), age, SIZE, 2)
        return (head.ventricle_distance < 0).sum()

    young, old = volume(0.0), volume(1.0)
    assert old > 2 * young > 0


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate_brain(7, 32)


def test_files_counts_and_split(tmp_path):
    calls = []
    new = tmp_path / "new" / "brains"
    write_brain_phantoms(new, 32, subjects=10, progress=lambda *call: calls.append(call))
    assert calls == [(done, 10) for done in range(1, 11)]
    assert [path.name for path in new.parent.iterdir()] == ["brains"]  # no temporary folder left

    expected = {"train": range(1, 7), "validate": [7, 8], "test": [9, 10]}
    root = new / "keras_png_slices_data"
    splits = {f"keras_png_slices_{name}" for name in expected}
    assert {path.name for path in root.iterdir()} == {*splits, "SIMULATED.txt"}
    for name, subjects in expected.items():
        files = {path.name for path in (root / f"keras_png_slices_{name}").iterdir()}
        assert files == {f"case_{i:03d}_slice_{n}.nii.png" for i in subjects for n in range(SLICES_PER_SUBJECT)}

    with Image.open(root / "keras_png_slices_test" / "case_009_slice_7.nii.png") as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), simulate_brain(9, 32)[7])
    mark = (root / "SIMULATED.txt").read_text()
    assert "Digital phantoms" in mark
    assert "No picture here shows a real person" in mark
    assert "write_brain_phantoms(folder, image_size=32, subjects=10, seed=1)" in mark


def test_three_subjects_give_one_each(tmp_path):
    write_brain_phantoms(tmp_path / "brains", 32, subjects=3)
    counts = [len(list(path.iterdir())) for path in (tmp_path / "brains" / "keras_png_slices_data").glob("keras_png_*")]
    assert counts == [SLICES_PER_SUBJECT] * 3


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match="at least 32"):
        simulate_brain(1, 31)
    with pytest.raises(ValueError, match="0 or more"):
        simulate_brain(-1, 32)
    with pytest.raises(ValueError, match="at least 32"):
        write_brain_phantoms(tmp_path / "brains", 16)
    with pytest.raises(ValueError, match="at least 3:"):
        write_brain_phantoms(tmp_path / "brains", 32, subjects=2)
    assert list(tmp_path.iterdir()) == []
