"""Slices from disk to training batches; a set of slices is one entry of `DATASETS`, also a third one."""

import dataclasses
import re

import keras
import numpy as np
import pytest
from PIL import Image

from conftest import assert_refused, make_akoa_folder, make_oasis_folder, settings_for, train_file
from gan_utils import data
from gan_utils.data import (
    DATASETS,
    PHANTOM_MARK,
    Dataset,
    needs_phantoms,
    phantom_folder,
    scale_to_unit_range,
    steps_in_epoch,
    training_batches,
)
from gan_utils.gan import build_gan
from gan_utils.settings import choose_settings
from prepare import brain_phantom, knee_phantom
from prepare.cutting import CUTS


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder of its own."""
    monkeypatch.setattr(data, "project_path", tmp_path.joinpath)
    return tmp_path


def make_phantoms(settings):
    """Stand-ins for what prepare.phantoms writes; tests/test_phantom_files.py loads those."""
    make = {"brain": make_oasis_folder, "knee": make_akoa_folder}[settings.experiment]
    folder = make(phantom_folder(settings) / DATASETS[settings.experiment].folder)
    (folder / PHANTOM_MARK).touch()
    return folder


def test_splits_are_loaded_in_numeric_order(oasis_folder):
    splits = data.load(settings_for(oasis_folder))
    assert splits.train.subjects.tolist() == [1, 1, 1, 2, 2, 2, 10, 10, 10]
    assert splits.train.slice_numbers.tolist() == [0, 2, 10] * 3
    assert (len(splits.validate), len(splits.test)) == (6, 3)
    assert splits.train.images.shape == (9, 40, 40, 1)
    assert splits.train.images.dtype == np.uint8
    assert not splits.phantoms
    on_disk = np.asarray(Image.open(train_file(oasis_folder)))
    np.testing.assert_array_equal(splits.train.images[5, :, :, 0], on_disk)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_folder_is_found_at_every_nesting(tmp_path, depth):
    nested = tmp_path.joinpath("my scans", *["keras_png_slices_data"] * depth)
    make_oasis_folder(nested)
    assert len(data.load(settings_for(tmp_path / "my scans")).train) == 9


def test_own_data_in_the_data_folder_is_taken_before_phantoms(project):
    folder = make_oasis_folder(project / "data" / "keras_png_slices_data")
    settings = settings_for(None)
    make_phantoms(settings)
    splits = data.load(settings)
    assert (splits.title, splits.phantoms, splits.folder) == ("real brain slices", False, folder)
    assert not needs_phantoms(settings)
    assert needs_phantoms(settings_for(None, "knee"))


@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_phantoms_are_loaded_where_there_is_no_data(project, experiment):
    settings = settings_for(None, experiment, phantom_subjects=6)
    folder = make_phantoms(settings)
    splits = data.load(settings)
    assert (splits.title, splits.phantoms) == (f"{experiment} slices of digital phantoms", True)
    assert splits.folder == folder
    assert folder.parent == project / "data" / f"{experiment}_phantoms_40px_6subjects"


@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_the_loader_makes_no_phantoms(project, experiment):
    assert_refused(None, f"{experiment}_phantoms_40px", "holds no slices", "prepare.phantoms", experiment=experiment)
    assert list(project.iterdir()) == []


@pytest.mark.parametrize("place", ["data", "data/keras_png_slices_data", "my scans"])
def test_phantoms_are_called_so_wherever_they_were_moved(project, place):
    folder = make_phantoms(settings_for(None))
    (project / place).mkdir(parents=True, exist_ok=True)
    folder.rename(project / place / "keras_png_slices_data")
    splits = data.load(settings_for("my scans" if place == "my scans" else None))
    assert (splits.title, splits.phantoms) == ("brain slices of digital phantoms", True)


@pytest.mark.parametrize("name", ["phantoms", "simulated"])
def test_phantoms_can_be_asked_for_where_there_are_real_slices(project, name):
    make_oasis_folder(project / "data" / "keras_png_slices_data")
    settings = settings_for(name)
    make_phantoms(settings)
    assert needs_phantoms(settings)
    assert data.load(settings).phantoms


def test_emptied_folder_of_phantoms_is_named(project):
    phantom_folder(settings_for(None)).mkdir(parents=True)
    assert_refused(None, "brain_phantoms_40px_10subjects", "holds no slices", "Delete it")


def test_larger_images_are_averaged_over_areas(tmp_path):
    folder = make_oasis_folder(tmp_path / "keras_png_slices_data", size=80)
    image = data.load(settings_for(folder)).train.images[5, :, :, 0]
    on_disk = np.asarray(Image.open(train_file(folder)), float)
    # Pillow rounds twice, after the rows and after the columns.
    np.testing.assert_allclose(image, on_disk.reshape(40, 2, 40, 2).mean((1, 3)), atol=1)


def test_missing_folder_is_refused_and_never_replaced_by_phantoms(tmp_path):
    assert_refused(tmp_path / "nowhere", "nowhere", "does not exist", "keras_png_slices_train/")


def test_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path, str(tmp_path), "nothing", "keras_png_slices_train/")


def test_folder_of_another_layout_is_refused(tmp_path):
    (tmp_path / "AKOA_Analysis").mkdir()
    assert_refused(tmp_path, "AKOA_Analysis", "keras_png_slices_train/", "another EXPERIMENT")


def test_brains_are_refused_as_knees(oasis_folder):
    assert_refused(oasis_folder.parent, "keras_png_slices_data", "another EXPERIMENT", experiment="knee")


def test_three_equal_channels_count_as_grey(oasis_folder):
    path = train_file(oasis_folder)
    with Image.open(path) as image:
        grey = np.asarray(image)
        image.convert("RGB").save(path)
    np.testing.assert_array_equal(data.load(settings_for(oasis_folder)).train.images[5, :, :, 0], grey)


def test_data_set_of_too_small_images_is_refused(tmp_path):
    folder = make_oasis_folder(tmp_path / "keras_png_slices_data", size=24)
    assert_refused(folder, "24x24", "at least 40")


def test_knees_are_loaded_with_patient_scan_slice_and_side(akoa_folder):
    (akoa_folder / "OAI0000012_BaseLine_7_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz_0.png").write_bytes(
        (akoa_folder / "OAI0000012_BaseLine_3_de3d1_SAG_3D_DESS_WE_LEFT.nii.gz_0.png").read_bytes()
    )
    splits = data.load(settings_for(akoa_folder.parent, "knee"))
    each = (splits.train, splits.validate, splits.test)
    assert (splits.title, splits.phantoms) == ("real knee slices", False)
    assert sorted(set(np.concatenate([split.subjects for split in each]).tolist())) == [11, 12, 13, 14, 15]
    assert sum(map(len, each)) == 16
    (split,) = (split for split in each if 12 in split.subjects)
    chosen = split.subjects == 12
    assert split.slice_numbers[chosen].tolist() == [0, 2, 10, 0]
    assert split.sides[chosen].tolist() == ["LEFT"] * 3 + ["RIGHT"]
    assert np.diff(split.scans[chosen]).tolist() == [0, 0, 1]
    assert splits.train.images.shape[1:] == (40, 40, 1)


def test_one_knee_patient_is_refused_and_told_how_many_are_needed(tmp_path):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", patients=(1,))
    assert_refused(folder, "1 patient", "At least 3", experiment="knee")


def test_too_many_images_for_the_memory_say_what_to_do(oasis_folder, monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    assert_refused(oasis_folder, "9 images do not fit into memory", "smaller image_size")


# ---- A third set of slices -------------------------------------------------------------------------------------


@pytest.fixture(params=["flat", "folders"])
def livers(request, tmp_path, monkeypatch):
    """A data set of ten patients that nothing but its entry in `DATASETS` knows of: one folder, or one for a split."""
    parts = {"train": range(1, 9), "validate": [9], "test": [10]}
    dataset = Dataset(
        folder="livers",
        name_pattern=re.compile(r"patient(?P<subject>\d+)_(?P<scan>[a-z]+)_z(?P<number>\d+)\.png"),
        split_folders={name: f"{name}ing" for name in parts} if request.param == "folders" else None,
        tree="Expected: livers/ patient1_venous_z0.png, ...",
        title="liver slices",
        published_ssim="mean",
        published={**DATASETS["knee"].published, "initial_weights": "glorot_uniform"},
        profiles={"smoke": DATASETS["knee"].profiles["smoke"]},
        improved={"smoke": {"filters": 4}},
    )
    monkeypatch.setitem(DATASETS, "liver", dataset)
    rng = np.random.default_rng(0)
    for name, patients in parts.items():
        folder = tmp_path / "livers" / (f"{name}ing" if dataset.split_folders else "")
        folder.mkdir(parents=True, exist_ok=True)
        for patient in patients:
            for place in ("venous_z0", "venous_z10", "arterial_z2"):
                picture = Image.fromarray(rng.integers(0, 256, (40, 36), dtype=np.uint8))
                picture.save(folder / f"patient{patient}_{place}.png")
    return tmp_path


def test_a_third_data_set_is_one_entry(livers):
    settings = choose_settings("liver", "smoke", data=livers)
    assert (settings.run_name, settings.networks) == ("liver-baseline-smoke", "knee")
    assert choose_settings("liver", "smoke", "improved").networks == "dcgan"
    splits = data.load(settings)
    assert (splits.title, splits.phantoms, splits.folder) == ("real liver slices", False, livers / "livers")
    each = [splits.train, splits.validate, splits.test]
    assert [len(split) for split in each] == [24, 3, 3]
    assert sorted(np.concatenate([np.unique(split.subjects) for split in each])) == list(range(1, 11))
    assert splits.test.slice_numbers.tolist() == [2, 0, 10]  # arterial before venous, and 10 after 0
    assert splits.test.scans.tolist() == [0, 1, 1]
    if not DATASETS["liver"].split_folders:
        held_out = {int(data.load(dataclasses.replace(settings, seed=seed)).test.subjects[0]) for seed in range(8)}
        assert len(held_out) > 3


@pytest.mark.parametrize("recipe", ["baseline", "improved"])
def test_a_third_data_set_trains(livers, recipe):
    settings = choose_settings("liver", "smoke", recipe, data=livers)
    images = data.load(settings).train.images
    model = build_gan(settings)
    before = model.generator.get_weights()
    model.fit(training_batches(images, settings), epochs=1, steps_per_epoch=1, shuffle=False, verbose=0)
    assert any((new != old).any() for new, old in zip(model.generator.get_weights(), before, strict=True))


def test_slices_of_another_set_are_refused_by_a_third(livers, oasis_folder):
    with pytest.raises(data.DataError, match=r"(?s)No liver slices in .*livers.*patient1_venous_z0\.png"):
        data.load(choose_settings("liver", "smoke", data=oasis_folder))


# ---- Batches ---------------------------------------------------------------------------------------------------


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


def test_order_does_not_depend_on_the_seed_of_tensorflow():
    """Training is resumed in another process, where anything may have set the global seed or nothing has."""
    settings = choose_settings("brain", "smoke", batch_size=7, seed=2**32 - 1)
    images, orders = numbered_images(48), []
    for seed in (1, 5):
        keras.utils.set_random_seed(seed)
        orders.append(numbers_in(training_batches(images, settings, epochs_done=2).take(8)))
    np.testing.assert_array_equal(*orders)


def test_batches_are_full_scaled_and_the_same_for_the_same_seed():
    settings = choose_settings("brain", "smoke", steps_per_epoch=None)
    first, second = (next(iter(training_batches(numbered_images(50), settings))).numpy() for _ in range(2))
    assert first.shape == (16, 32, 32, 1)
    assert first.dtype == np.float32
    assert first.min() >= -1
    assert first.max() <= 1
    np.testing.assert_array_equal(first, second)


def test_fewer_images_than_a_batch_is_refused():
    with pytest.raises(ValueError, match="15 training images cannot fill a batch of 16"):
        training_batches(numbered_images(15), choose_settings("brain", "smoke"))


def test_training_batches_can_be_given_up_at_once():
    """TensorFlow's tuner would make the end of training wait."""
    batches = training_batches(numbered_images(48), choose_settings("brain", "smoke"))
    assert not batches.options().autotune.enabled


def test_labels_stay_with_their_images_also_after_some_epochs():
    settings = choose_settings("brain", "smoke", batch_size=7, steps_per_epoch=5)
    images = numbered_images(48)
    labels = np.arange(48)
    whole = training_batches(images, settings, labels=labels).take(10)
    numbers = numbers_in(whole.map(lambda images, labels: images))
    np.testing.assert_array_equal(numbers, np.concatenate([its_labels.numpy() for _, its_labels in whole]))
    later = training_batches(images, settings, epochs_done=1, labels=labels).take(5)
    np.testing.assert_array_equal(np.concatenate([its_labels.numpy() for _, its_labels in later]), numbers[35:])


def test_levels_and_sides_come_from_the_file_names(oasis_folder, akoa_folder):
    """Slices 0, 2 and 10 of each scan."""
    brains = data.load(settings_for(oasis_folder)).train
    assert brains.levels.shape == (len(brains), 1)
    assert brains.levels[:, 0] == pytest.approx([0, 0.2, 1] * 3)
    knees = data.load(settings_for(akoa_folder, "knee")).train
    assert knees.levels[:, 0] == pytest.approx([0, 0.2, 1] * 3)
    assert {"RIGHT" if subject % 2 else "LEFT" for subject in knees.subjects} == set(knees.sides)


# ---- The size of a pixel ---------------------------------------------------------------------------------------


def test_pixels_of_phantoms_are_as_large_as_they_were_made(oasis_folder):
    (data.find_slices(settings_for(oasis_folder)) / data.PHANTOM_MARK).touch()
    splits = data.load(settings_for(oasis_folder))
    assert splits.pixel_size * splits.train.images.shape[1] == brain_phantom.FIELD_OF_VIEW
    assert data.DATASETS["knee"].phantom_width == knee_phantom.FIELD_OF_VIEW[1]  # the wider side, which is kept


@pytest.mark.parametrize("beside", [True, False])
def test_pixels_of_cut_slices_are_as_large_as_they_were_cut(oasis_folder, akoa_folder, beside):
    for folder, experiment, width in ((oasis_folder, "brain", 40), (akoa_folder, "knee", 65)):  # pixels of the files
        found = data.find_slices(settings_for(folder, experiment))
        ((found.parent if beside else found) / data.TABLE_OF_CUT_SLICES).touch()
        splits = data.load(settings_for(folder, experiment))
        assert splits.pixel_size * splits.train.images.shape[1] == width * CUTS[experiment].step[0]


def test_pixels_of_slices_from_elsewhere_or_squashed_ones_are_of_unknown_size(oasis_folder, akoa_folder):
    assert data.load(settings_for(oasis_folder)).pixel_size is None
    (data.find_slices(settings_for(akoa_folder, "knee")) / data.TABLE_OF_CUT_SLICES).touch()
    assert data.load(settings_for(akoa_folder, "knee", resize="squash")).pixel_size is None
