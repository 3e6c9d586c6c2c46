import csv
import dataclasses

import imageio.v3 as imageio
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from conftest import OF_IMAGES, make_akoa_folder, make_oasis_folder
from gan_utils import callbacks, data, metrics
from gan_utils.callbacks import (
    Evaluate,
    KeepBest,
    ShowProgress,
    WriteHistory,
    WriteStepLosses,
    fixed_latents,
    training_callbacks,
)
from gan_utils.evaluator import Evaluator
from gan_utils.gan import GAN
from gan_utils.image_statistics import sample_reference_batches
from gan_utils.metrics import METRICS, describe_warnings
from gan_utils.networks import build_pair, generate_images
from gan_utils.plots import epoch_image_path, image_grid, save_image_grid
from gan_utils.run_folder import read_history
from gan_utils.settings import choose_settings

EVERY_EPOCH = [name for name, metric in METRICS.items() if metric.every_epoch]
NOT_EVERY_EPOCH = [name for name in OF_IMAGES if name not in EVERY_EPOCH]


def train(folder, data_folder, experiment="brain", epochs=2, **changes):
    """A GAN trained for a few epochs with the callbacks of notebook 3: (model, settings, splits, run folder)."""
    settings = choose_settings(
        experiment, "smoke", data=data_folder, batch_size=4, steps_per_epoch=2, ssim_batches=3, **changes
    )
    splits = dataclasses.replace(data.load(settings), test=None)  # training never looks at the test subjects
    model = GAN(*build_pair(settings), settings.updates, seed=settings.seed)
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    model.fit(
        data.training_batches(splits.train.images, settings),
        epochs=epochs,
        steps_per_epoch=2,
        callbacks=training_callbacks(settings, folder, splits),
        shuffle=False,
        verbose=0,
    )
    return model, settings, splits, folder


@pytest.fixture
def trained(oasis_folder, tmp_path):
    return train(tmp_path, oasis_folder)


def scikit_ssim(image, other):
    """SSIM of two images, (size, size, 1), -1..1, by other code than that of gan_utils."""
    pair = (np.asarray(each, np.float64)[..., 0] for each in (image, other))
    return structural_similarity(*pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0)


def test_every_epoch_leaves_a_grid_of_the_same_latents(trained):
    model, settings, _, folder = trained
    grids = [imageio.imread(folder / f"image_at_epoch_000{epoch}.png") for epoch in (1, 2)]
    assert (grids[0] != grids[1]).any()
    np.testing.assert_array_equal(grids[1], image_grid(generate_images(model.generator, fixed_latents(settings))))


def test_history_has_a_row_an_epoch_counted_from_one(trained):
    model, _, _, folder = trained
    history = read_history(folder)
    assert history["epoch"].tolist() == [1, 2]
    for name in ("generator_loss", "discriminator_loss", *EVERY_EPOCH):
        np.testing.assert_allclose(history[name], model.history.history[name], rtol=1e-5)
    for clock in ("seconds", "processor_seconds"):
        assert history[clock][1] >= history[clock][0] > 0


def test_history_has_a_column_for_each_metric_and_for_what_real_images_have(trained):
    real = [f"{name}_real" for name, metric in OF_IMAGES.items() if metric.target is None]
    expected = ["epoch", "generator_loss", "discriminator_loss", *OF_IMAGES, *real, "processor_seconds", "seconds"]
    assert list(read_history(trained[3]).dtype.names) == expected
    assert {"swd", "swd_real", "ssim", "diversity_ratio"} <= set(expected)


def test_ssim_of_an_epoch_is_the_published_maximum(trained):
    model, settings, splits, folder = trained
    images = generate_images(model.generator, fixed_latents(settings))
    batches = sample_reference_batches(splits.train.images, settings)
    assert batches.shape == (3, 16, 32, 32, 1)
    pairs = [scikit_ssim(*pair) for batch in batches / 127.5 - 1 for pair in zip(images, batch, strict=True)]
    assert read_history(folder)["ssim"][1] == pytest.approx(np.max(pairs), abs=1e-4)


def test_ssim_of_an_epoch_of_knees_is_the_mean_over_all_pairs_with_the_validation_patient(akoa_folder, tmp_path):
    model, settings, splits, folder = train(tmp_path, akoa_folder, "knee")
    images = generate_images(model.generator, fixed_latents(settings))
    held_out = splits.validate.images / 127.5 - 1
    assert len(held_out) == 3
    pairs = [scikit_ssim(image, other) for image in images for other in held_out]
    assert read_history(folder)["ssim"][1] == pytest.approx(np.mean(pairs), abs=1e-4)


def test_the_first_the_last_and_every_so_many_epochs_are_evaluated(oasis_folder, tmp_path):
    _, _, _, folder = train(tmp_path, oasis_folder, epochs=8, evaluate_every=3)
    history = read_history(folder)
    for name in NOT_EVERY_EPOCH:
        assert history["epoch"][np.isfinite(history[name])].tolist() == [1, 3, 6, 8]
    for name in EVERY_EPOCH:
        assert np.isfinite(history[name]).all()
    assert len(set(history["swd_real"][[0, 2, 5, 7]])) == 1
    with open(folder / "history.csv", newline="") as file:
        assert [row["swd"] != "" for row in csv.DictReader(file)] == [epoch in (1, 3, 6, 8) for epoch in range(1, 9)]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_one_slice_a_subject_is_enough(tmp_path, capsys, experiment):
    brains = {"subjects": (range(1, 5), (402,), (441,)), "slices": (0,)}
    knees = {"patients": range(11, 17), "slices": (0,)}
    make, sizes = {"brain": (make_oasis_folder, brains), "knee": (make_akoa_folder, knees)}[experiment]
    make(tmp_path / "slices" / data.DATASETS[experiment].folder, **sizes)
    history = read_history(train(tmp_path, tmp_path / "slices", experiment)[-1])
    for name in OF_IMAGES:
        assert np.isfinite(history[name]).all()
    assert "nan" not in (tmp_path / "history.csv").read_text()
    assert "NaN" not in capsys.readouterr().err


def test_metrics_of_an_epoch_are_those_of_the_validation_subjects(trained):
    model, settings, splits, folder = trained
    images = generate_images(model.generator, fixed_latents(settings, 64))
    evaluator = Evaluator(splits.validate.images, splits.train.images, settings, 64, callbacks.EVALUATED_PROJECTIONS)
    values = evaluator(images)
    for name in (*NOT_EVERY_EPOCH, "swd_real"):
        assert read_history(folder)[name][1] == pytest.approx(values[name], rel=1e-3)


def test_real_images_are_measured_once_and_not_in_every_evaluation(trained, monkeypatch):
    model, settings, splits, _ = trained
    evaluate = Evaluate(splits, settings)
    evaluate.set_model(model)
    evaluate.set_params({"epochs": 2})
    measured, power = [], metrics.high_frequency_power
    monkeypatch.setattr(metrics, "high_frequency_power", lambda images: measured.append(images) or power(images))
    for epoch in (0, 1):
        evaluate.on_epoch_end(epoch, logs := {})
        assert {name for name in logs if name in METRICS} == set(OF_IMAGES)
    expected = generate_images(model.generator, fixed_latents(settings, 64))
    real = [images for images in measured if images.dtype == np.uint8]
    generated = [images for images in measured if images.dtype != np.uint8]
    assert (len(real), len(generated)) == (2, 2)  # real ones: below the line, and in place of the generated ones
    for images in generated:
        np.testing.assert_array_equal(images, expected)


def write_history(folder, epoch, **logs):
    table = WriteHistory(folder)
    table.on_train_begin()
    table.on_epoch_begin(epoch)
    table.on_epoch_end(epoch, {"generator_loss": 1.0, "discriminator_loss": 1.0, "ssim": 0.5, **logs})


def test_unmeasured_cells_are_blank_and_numbers_have_six_digits(tmp_path):
    broken = {"diversity_ratio": np.nan, "nearest_ratio": np.inf, "swd_real": -np.inf}
    write_history(tmp_path, 0, discriminator_loss=0.123456789, swd=20.0, **broken)
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert float(row.pop("seconds")) >= 0
    assert float(row.pop("processor_seconds")) >= 0
    measured = {"epoch": "1", "generator_loss": "1", "discriminator_loss": "0.123457", "ssim": "0.5", "swd": "20"}
    assert {name: value for name, value in row.items() if value} == measured


OLD_HISTORY = "epoch,generator_loss,discriminator_loss,ssim,seconds\n1,0.7,1.4,0.1,5\n2,0.7,1.4,0.1,9\n"


def test_history_of_an_older_run_is_read_and_raises_no_warning(tmp_path):
    (tmp_path / "history.csv").write_text(OLD_HISTORY)
    history = read_history(tmp_path)
    assert history["epoch"].tolist() == [1, 2]
    assert history["ssim"].tolist() == [0.1, 0.1]
    assert history["seconds"].tolist() == [5, 9]
    assert describe_warnings(history) == "Warnings in 2 epochs: none"


def test_history_of_an_older_run_is_continued_in_the_columns_of_today(tmp_path):
    (tmp_path / "history.csv").write_text(OLD_HISTORY)
    write_history(tmp_path, 2, swd=20.0)
    history = read_history(tmp_path)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["ssim"].tolist() == [0.1, 0.1, 0.5]
    assert history["seconds"][2] >= 9
    assert np.isnan(history["processor_seconds"]).all()  # of the first two epochs it is not known
    np.testing.assert_array_equal(history["swd"], [np.nan, np.nan, 20])
    assert describe_warnings(history) == "Warnings in 3 epochs: none"


def test_a_warning_is_shown_when_it_is_raised_and_not_again_until_the_end(tmp_path, capsys):
    progress = ShowProgress(tmp_path)
    progress.on_train_begin()
    assert capsys.readouterr().err.strip() == "No warnings so far."
    shown = []
    for epoch, loss in enumerate((1.0, 0.01, 0.01)):
        write_history(tmp_path, epoch, discriminator_loss=loss)
        progress.on_epoch_begin(epoch)
        progress.on_epoch_end(epoch, {"generator_loss": 1.0, "discriminator_loss": loss, "ssim": 0.5})
        shown.append(capsys.readouterr().err.strip())
    progress.on_train_end()
    assert shown[0] == shown[2] == ""
    assert shown[1].startswith("Warning in epoch 2. The discriminator has won: it knows every")
    at_the_end = capsys.readouterr().err
    assert "Warnings in 3 epochs:\n- from epoch 2 on, in 2 of 3: The discriminator has won" in at_the_end


def test_a_run_that_is_continued_shows_the_warnings_of_its_earlier_epochs(tmp_path, capsys):
    write_history(tmp_path, 0, discriminator_loss=0.01)
    ShowProgress(tmp_path).on_train_begin()
    assert "Warnings in 1 epoch:\n- from epoch 1 on, in 1 of 1: The discriminator has won" in capsys.readouterr().err


def test_callbacks_of_ones_own_find_the_metrics_and_come_before_the_state_is_kept(oasis_folder, tmp_path):
    settings = choose_settings("brain", "smoke", data=oasis_folder)
    mine = keras.callbacks.Callback()
    names = [each for each in training_callbacks(settings, tmp_path, data.load(settings), [mine])]
    assert names.index(mine) == len(names) - 2
    assert isinstance(names[-1], callbacks.KeepState)


def test_a_notebook_shows_the_newest_grid_and_graphs_in_evaluated_epochs_only(tmp_path, monkeypatch):
    plotted, shown = [], {"picture": [], "graphs": []}

    def show_in_place(handle, picture):
        kind = "graphs" if picture.alt.startswith("Both losses") else "picture"
        assert (handle is None) == (not shown[kind])  # the first is displayed, the others replace it
        shown[kind].append(picture)
        return kind

    monkeypatch.setattr(callbacks, "get_ipython", lambda: True)
    monkeypatch.setattr(callbacks, "show_in_place", show_in_place)
    plot = callbacks.plot_history
    monkeypatch.setattr(callbacks, "plot_history", lambda history: plotted.append(plot(history)) or plotted[-1])
    progress = ShowProgress(tmp_path)
    progress.on_train_begin()
    losses, evaluated = {"generator_loss": 1.0, "discriminator_loss": 1.0, "ssim": 0.5}, dict.fromkeys(OF_IMAGES, 1.0)
    for epoch, logs in enumerate((losses | evaluated, losses, losses | evaluated)):
        save_image_grid(epoch_image_path(tmp_path, epoch + 1), np.zeros((16, 8, 8, 1)))
        write_history(tmp_path, epoch, **logs)
        progress.on_epoch_begin(epoch)
        progress.on_epoch_end(epoch, logs)
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in plotted] == [1, 3]
    assert len(shown["graphs"]) == 2
    assert [picture.alt for picture in shown["picture"]] == [
        f"Sixteen generated images after epoch {epoch}" for epoch in (1, 2, 3)
    ]
    assert not plt.get_fignums()


def test_every_step_leaves_its_losses(trained):
    model, _, _, folder = trained
    table = np.genfromtxt(folder / "step_losses.csv", delimiter=",", names=True)
    assert table["step"].tolist() == [1, 2, 3, 4]
    for name in ("generator_loss", "discriminator_loss"):
        np.testing.assert_allclose(table[name].reshape(2, 2).mean(axis=1), model.history.history[name], rtol=1e-4)


def test_tables_of_training_that_continues_in_another_folder_have_their_head(tmp_path):
    for table in (WriteHistory(tmp_path), WriteStepLosses(tmp_path)):
        table.set_params({"steps": 2})
        table.on_train_begin()
        table.on_epoch_begin(4)
        for step in range(2):
            table.on_train_batch_end(step, {"generator_loss": 0.5, "discriminator_loss": 1.0})
        table.on_epoch_end(4, {"generator_loss": 0.5, "discriminator_loss": 1.0})
    assert read_history(tmp_path)["epoch"].tolist() == [5]
    assert (tmp_path / "step_losses.csv").read_bytes() == (
        b"step,generator_loss,discriminator_loss\r\n9,0.5,1\r\n10,0.5,1\r\n"
    )


def test_rows_of_an_epoch_that_was_cut_off_are_dropped(tmp_path):
    """A kill may come after the history was written and before the state was kept: that epoch is trained again."""
    for epoch in range(3):
        write_history(tmp_path, epoch, generator_loss=float(epoch))
    write_history(tmp_path, 1, generator_loss=9.0)
    assert read_history(tmp_path)["epoch"].tolist() == [1, 2]
    assert read_history(tmp_path)["generator_loss"].tolist() == [0, 9]


def test_debug_keeps_images_and_networks_of_every_epoch(tmp_path):
    slices = make_akoa_folder(tmp_path / "AKOA_Analysis", slices=range(6))
    model, settings, splits, folder = train(tmp_path, slices, "knee", debug=True)
    for name in ("TrainImages", "Intermediate"):
        grids = [imageio.imread(folder / name / f"epoch_000{epoch}.png") for epoch in (1, 2)]
        assert grids[0].shape == (4 * 34 - 2, 4 * 34 - 2)
        assert (grids[0] != grids[1]).any()
    training_images = {image.tobytes() for image in splits.train.images}
    kept = imageio.imread(folder / "TrainImages" / "epoch_0001.png")
    assert kept[:32, :32].tobytes() in training_images
    models = sorted(path.name for path in (folder / "Models").iterdir())
    assert models == [f"{name}_epoch_000{epoch}.keras" for name in ("discriminator", "generator") for epoch in (1, 2)]
    loaded = keras.models.load_model(folder / "Models" / "generator_epoch_0002.keras")
    latents = fixed_latents(settings)
    np.testing.assert_allclose(loaded(latents), model(latents), atol=1e-6)


def test_without_debug_there_are_no_debug_folders(trained):
    assert not {"TrainImages", "Intermediate", "Models"} & {path.name for path in trained[3].iterdir()}


def test_progress_tells_epoch_losses_and_time_left(tmp_path, capsys):
    progress = ShowProgress(tmp_path)
    progress.set_params({"epochs": 2, "steps": 3})
    progress.on_train_begin()
    progress.line.seconds_between_updates = 0
    for epoch in (0, 1):
        progress.on_epoch_begin(epoch)
        for step in (0, 1, 2):
            progress.on_train_batch_begin(step)
        logs = {"generator_loss": 0.7 + epoch, "discriminator_loss": 1.3, "ssim": 0.25}
        write_history(tmp_path, epoch, **logs)
        progress.on_epoch_end(epoch, logs)
    progress.on_train_end()
    shown = [line.strip() for line in capsys.readouterr().err.split("\r")]
    assert "epoch 1 of 2, step 2 of 3, 0 s left" in shown
    values = "last epoch: generator loss 0.700, discriminator loss 1.300, SSIM, as published 0.250"
    assert f"epoch 2 of 2, step 1 of 3, 0 s left; {values}" in shown
    assert shown[-2].startswith("2 epochs in 0 s; last epoch: generator loss 1.700")
    assert shown[-1] == "Warnings in 2 epochs: none"


def test_latents_are_fixed_by_the_seed():
    settings = choose_settings("brain", "smoke")
    np.testing.assert_array_equal(fixed_latents(settings), fixed_latents(settings))
    assert (fixed_latents(settings) != fixed_latents(choose_settings(seed=2))).any()
    np.testing.assert_array_equal(fixed_latents(settings, 64)[:16], fixed_latents(settings))


def test_training_can_continue_from_a_later_epoch(trained):
    model, settings, splits, folder = trained
    model.fit(
        data.training_batches(splits.train.images, settings),
        initial_epoch=2,
        epochs=3,
        steps_per_epoch=2,
        callbacks=training_callbacks(settings, folder, splits),
        shuffle=False,
        verbose=0,
    )
    history = read_history(folder)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["seconds"][2] >= history["seconds"][1] > 0
    assert (folder / "image_at_epoch_0003.png").exists()
    steps = np.genfromtxt(folder / "step_losses.csv", delimiter=",", names=True)["step"]
    assert steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_latents_of_the_pictures_are_not_those_of_the_first_training_step():
    settings = choose_settings("brain", "smoke")
    first_step = keras.random.normal((16, settings.latent_dim), seed=keras.random.SeedGenerator(settings.seed))
    assert np.abs(np.array(first_step) - fixed_latents(settings)).max() > 1


# ---- The best generator ----------------------------------------------------------------------------------------


def keep_best(model, folder, distances, first_epoch=0):
    """Which epochs, counted from 1, were kept as the best one by a new `KeepBest`."""
    keeper, kept = KeepBest(folder), []
    keeper.set_model(model)
    path = folder / "best_generator.keras"
    for epoch, distance in enumerate(distances, start=first_epoch):
        logs = {} if distance is None else {"swd": distance}
        write_history(folder, epoch, **logs)
        before = path.stat().st_mtime_ns if path.exists() else None
        keeper.on_epoch_end(epoch, logs)
        if path.exists() and path.stat().st_mtime_ns != before:
            kept.append(epoch + 1)
    return kept


def test_best_generator_is_that_of_the_smallest_distance_so_far(trained, tmp_path):
    model = trained[0]
    assert keep_best(model, tmp_path, [9.12345678, None, 8.0, 8.0, 8.5]) == [1, 3]
    saved = keras.models.load_model(tmp_path / "best_generator.keras")
    for one, other in zip(saved.get_weights(), model.averaged_generator.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_is_continued_keeps_what_was_best_before(trained, tmp_path):
    assert keep_best(trained[0], tmp_path, [9.0, 8.0]) == [1, 2]
    assert keep_best(trained[0], tmp_path, [8.5, 7.0], first_epoch=2) == [4]


def test_every_run_leaves_its_best_generator(trained):
    _, settings, splits, folder = trained
    best = keras.models.load_model(folder / "best_generator.keras")
    images = generate_images(best, fixed_latents(settings, 64))
    evaluator = Evaluator(splits.validate.images, splits.train.images, settings, 64, 128)
    assert evaluator(images, ["swd"])["swd"] == pytest.approx(np.nanmin(read_history(folder)["swd"]), rel=1e-4)
