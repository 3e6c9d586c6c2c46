import dataclasses

import numpy as np
import pytest
from PIL import Image

from conftest import assert_refused, make_akoa_folder, make_oasis_folder, settings_for, train_file
from gan_utils import datasets
from gan_utils.datasets import load_slices, scale_to_unit_range, steps_in_epoch, training_batches
from gan_utils.png_slices import resized
from gan_utils.settings import choose_settings
from gan_utils.simulation.brains import write_simulated_brains
from gan_utils.simulation.knees import write_drawn_knees

SMALL = {"image_size": 32, "generator_input_dim": 4}


def test_splits_are_loaded_in_numeric_order(oasis_folder):
    data = load_slices(settings_for(oasis_folder))
    assert data.train.people.tolist() == [1, 1, 1, 2, 2, 2, 10, 10, 10]
    assert data.train.slice_numbers.tolist() == [0, 2, 10] * 3
    assert (len(data.validate), len(data.test)) == (6, 3)
    assert data.train.images.shape == (9, 40, 40, 1)
    assert data.train.images.dtype == np.uint8
    assert not data.simulated
    on_disk = np.asarray(Image.open(train_file(oasis_folder)))
    np.testing.assert_array_equal(data.train.images[5, :, :, 0], on_disk)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_folder_is_found_at_every_nesting(tmp_path, depth):
    nested = tmp_path.joinpath("my scans", *["keras_png_slices_data"] * depth)
    make_oasis_folder(nested)
    assert len(load_slices(settings_for(tmp_path / "my scans")).train) == 9


def test_own_data_in_the_data_folder_is_found_before_people_are_simulated(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    make_oasis_folder(tmp_path / "data" / "keras_png_slices_data")
    data = load_slices(settings_for(None))
    assert not data.simulated
    assert len(data.train) == 9


def test_people_are_simulated_where_there_is_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    settings = settings_for(None, **SMALL, simulated_people=3)
    data = load_slices(settings)
    assert data.simulated
    assert "simulated" in data.title
    assert data.train.images.shape == (32, 32, 32, 1)
    again = load_slices(settings)
    np.testing.assert_array_equal(data.test.images, again.test.images)
    assert "simulated_brains_32px_3people" in str(data.folder)


@pytest.mark.parametrize("place", ["data", "data/keras_png_slices_data", "my scans"])
def test_simulated_people_are_called_so_wherever_they_were_moved(tmp_path, monkeypatch, place):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    write_simulated_brains(tmp_path / "made", 32, people=3)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "made" / "keras_png_slices_data").rename(tmp_path / place / "keras_png_slices_data")
    assert load_slices(settings_for("my scans" if place == "my scans" else None, **SMALL)).simulated


def test_simulated_people_can_be_asked_for_where_there_are_real_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    make_oasis_folder(tmp_path / "data" / "keras_png_slices_data")
    assert load_slices(settings_for("simulated", **SMALL, simulated_people=3)).simulated


def test_emptied_folder_of_simulated_people_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    (tmp_path / "data" / "simulated_brains_40px_10people").mkdir(parents=True)
    assert_refused(None, "simulated_brains_40px_10people", "Delete the folder")


def test_larger_images_are_averaged_over_areas(tmp_path):
    folder = make_oasis_folder(tmp_path / "keras_png_slices_data", size=80)
    image = load_slices(settings_for(folder)).train.images[5, :, :, 0]
    on_disk = np.asarray(Image.open(train_file(folder)), float)
    # Pillow rounds twice, after the rows and after the columns.
    np.testing.assert_allclose(image, on_disk.reshape(40, 2, 40, 2).mean((1, 3)), atol=1)


def test_missing_folder_is_refused_and_never_replaced_by_simulated_people(tmp_path):
    assert_refused(tmp_path / "nowhere", "nowhere", "does not exist", "keras_png_slices_train/")


def test_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, str(tmp_path), "nothing", "keras_png_slices_train/")


def test_folder_of_another_layout_is_refused(tmp_path):
    (tmp_path / "AKOA_Analysis").mkdir()
    assert_refused(tmp_path, "AKOA_Analysis", "keras_png_slices_train/", "the other EXPERIMENT")


def test_brains_are_refused_as_knees(oasis_folder):
    assert_refused(oasis_folder.parent, "keras_png_slices_data", "the other EXPERIMENT", experiment="knee")


def test_three_equal_channels_count_as_grey(oasis_folder):
    path = train_file(oasis_folder)
    with Image.open(path) as image:
        grey = np.asarray(image)
        image.convert("RGB").save(path)
    np.testing.assert_array_equal(load_slices(settings_for(oasis_folder)).train.images[5, :, :, 0], grey)


def test_data_set_of_too_small_images_is_refused(tmp_path):
    folder = make_oasis_folder(tmp_path / "keras_png_slices_data", size=24)
    assert_refused(folder, "24x24", "at least 40")


def test_knees_are_loaded_with_patient_scan_slice_and_side(akoa_folder):
    (akoa_folder / "OAI0000012_BaseLine_7_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png").write_bytes(
        (akoa_folder / "OAI0000012_BaseLine_3_de3d1_SAG_3D_DESS_WE_LEFT.nii.gz_0.png").read_bytes()
    )
    data = load_slices(settings_for(akoa_folder.parent, "knee"))
    splits = (data.train, data.validate, data.test)
    assert (data.title, data.simulated) == ("real knee slices", False)
    assert sorted(set(np.concatenate([split.people for split in splits]).tolist())) == [11, 12, 13, 14, 15]
    assert sum(map(len, splits)) == 16
    (split,) = (split for split in splits if 12 in split.people)
    chosen = split.people == 12
    assert split.slice_numbers[chosen].tolist() == [0, 2, 10, 0]
    assert split.sides[chosen].tolist() == ["LEFT"] * 3 + ["RIGHT"]
    assert np.diff(split.scans[chosen]).tolist() == [0, 0, 1]
    assert data.train.images.shape[1:] == (40, 40, 1)


def test_one_knee_patient_is_refused_and_told_how_many_are_needed(tmp_path):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", patients=(1,))
    assert_refused(folder, "1 patient", "At least 3", experiment="knee")


def test_knees_are_drawn_where_there_is_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "project_path", lambda path: tmp_path / path)
    data = load_slices(settings_for(None, "knee", **SMALL, simulated_people=3))
    assert (data.title, data.simulated) == ("drawn knee slices", True)
    assert [len(set(split.people.tolist())) for split in (data.train, data.validate, data.test)] == [1, 1, 1]
    assert "drawn_knees_32px_3people" in str(data.folder)


def test_drawn_knees_are_called_so_wherever_they_were_moved(tmp_path):
    write_drawn_knees(tmp_path / "made", 32, 3)
    (tmp_path / "made" / "AKOA_Analysis").rename(tmp_path / "AKOA_Analysis")
    assert load_slices(settings_for(tmp_path, "knee", **SMALL)).title == "drawn knee slices"


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


def test_scaling_spans_the_range_of_tanh():
    np.testing.assert_array_equal(scale_to_unit_range(np.array([0, 255], np.uint8)), [-1, 1])


def numbered_images(count):
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 1), np.uint8)


def numbers_in(batches):
    """Which of `numbered_images` some batches hold, in their order."""
    return np.concatenate([np.round((batch.numpy()[:, 0, 0, 0] + 1) * 127.5).astype(int) for batch in batches])


@pytest.mark.parametrize("batch_size", [16, 20])  # 48 images are no whole number of batches of 20
def test_every_round_shows_each_image_once_in_an_order_of_its_own(batch_size):
    settings = choose_settings("brain", "smoke", batch_size=batch_size)
    numbers = numbers_in(training_batches(numbered_images(48), settings).take(12))
    rounds = numbers[: 3 * 48].reshape(3, 48)
    for order in rounds:
        np.testing.assert_array_equal(np.sort(order), np.arange(48))
        assert (np.diff(order) < 0).any()
    assert len({order.tobytes() for order in rounds}) == 3
    other = numbers_in(training_batches(numbered_images(48), dataclasses.replace(settings, seed=2)).take(12))
    assert (other != numbers).any()


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
def test_batches_after_some_epochs_are_those_that_would_have_come(steps_per_epoch):
    settings = choose_settings("brain", "smoke", batch_size=7, steps_per_epoch=steps_per_epoch)
    images = numbered_images(48)
    steps = steps_in_epoch(images, settings)
    assert steps == (steps_per_epoch or 6)
    numbers = numbers_in(training_batches(images, settings).take(4 * steps))
    later = numbers_in(training_batches(images, settings, epochs_done=3).take(steps))
    np.testing.assert_array_equal(later, numbers[3 * steps * 7 :])


def test_batches_are_full_scaled_and_the_same_for_the_same_seed():
    settings = choose_settings("brain", "smoke", steps_per_epoch=None)
    first, second = (next(iter(training_batches(numbered_images(50), settings))).numpy() for _ in range(2))
    assert first.shape == (16, 32, 32, 1)
    assert first.dtype == np.float32
    assert first.min() >= -1
    assert first.max() <= 1
    np.testing.assert_array_equal(first, second)


def test_fewer_images_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="15 training images do not fill a batch of 16"):
        training_batches(numbered_images(15), choose_settings("brain", "smoke"))


def test_training_batches_can_be_given_up_at_once():
    """TensorFlow's tuner would make the end of training wait."""
    batches = training_batches(numbered_images(48), choose_settings("brain", "smoke"))
    assert not batches.options().autotune.enabled
