import dataclasses

import imageio.v3 as imageio
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from gan_utils import callbacks, realism
from gan_utils.alarms import describe_alarms
from gan_utils.callbacks import (
    JUDGED_FIGURES,
    JUDGEMENTS_IN_WORDS,
    JudgeImages,
    ShowAlarms,
    ShowJudgements,
    ShowProgress,
    WriteHistory,
    WriteStepLosses,
    fixed_latents,
    training_callbacks,
)
from gan_utils.datasets import load_slices, scale_to_unit_range, training_batches
from gan_utils.dcgan import DCGAN
from gan_utils.figures import image_grid, read_history
from gan_utils.networks import build_networks, generate_images
from gan_utils.realism import judge
from gan_utils.settings import choose_settings
from gan_utils.similarity import draw_reference_batches, local_moments, ssim, ssim_all_pairs


def train(folder, data_folder, experiment="brain", epochs=2, **changes):
    """A GAN trained for a few epochs with the callbacks of notebook 3: (gan, settings, data, run folder)."""
    settings = choose_settings(
        experiment, "smoke", data=data_folder, batch_size=4, steps_per_epoch=2, ssim_batches=3, **changes
    )
    data = load_slices(settings)
    gan = DCGAN(*build_networks(settings), settings.updates, seed=settings.seed)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    batches = training_batches(data.train.images, settings)
    around = training_callbacks(settings, folder, data)
    gan.fit(batches, epochs=epochs, steps_per_epoch=2, callbacks=around, shuffle=False, verbose=0)
    return gan, settings, data, folder


@pytest.fixture
def trained(oasis_folder, tmp_path):
    return train(tmp_path, oasis_folder)


def test_every_epoch_leaves_a_grid_of_the_same_latents(trained):
    gan, settings, _, folder = trained
    grids = [imageio.imread(folder / f"image_at_epoch_000{epoch}.png") for epoch in (1, 2)]
    assert (grids[0] != grids[1]).any()
    np.testing.assert_array_equal(grids[1], image_grid(generate_images(gan.generator, fixed_latents(settings))))


def test_history_has_a_line_an_epoch_counted_from_one(trained):
    gan, _, _, folder = trained
    history = read_history(folder)
    assert history["epoch"].tolist() == [1, 2]
    for name in ("generator_loss", "discriminator_loss", "ssim"):
        np.testing.assert_allclose(history[name], gan.history.history[name], rtol=1e-5)
    assert history["seconds"][1] >= history["seconds"][0] >= 0


def test_ssim_of_an_epoch_is_the_published_maximum(trained):
    gan, settings, data, folder = trained
    images = generate_images(gan.generator, fixed_latents(settings))
    references = draw_reference_batches(data.train.images, settings)
    pairs = [ssim(local_moments(images), references[batch]) for batch in range(settings.ssim_batches)]
    assert read_history(folder)["ssim"][1] == pytest.approx(np.max(pairs), abs=1e-5)


def test_ssim_of_an_epoch_of_knees_is_the_mean_over_all_pairs_with_the_validation_patient(akoa_folder, tmp_path):
    gan, settings, data, folder = train(tmp_path, akoa_folder, "knee")
    images = generate_images(gan.generator, fixed_latents(settings))
    pairs = ssim_all_pairs(images, scale_to_unit_range(data.validate.images))
    assert pairs.shape == (16, 3)
    assert read_history(folder)["ssim"][1] == pytest.approx(pairs.mean(), abs=1e-5)


def test_the_first_the_last_and_every_so_many_epochs_are_judged(oasis_folder, tmp_path):
    _, _, _, folder = train(tmp_path, oasis_folder, epochs=8, judge_interval=3)
    history = read_history(folder)
    for name in JUDGED_FIGURES:
        assert history["epoch"][np.isfinite(history[name])].tolist() == [1, 3, 6, 8]
    assert len(set(history["swd_real"][[0, 2, 5, 7]])) == 1


def test_figures_of_an_epoch_are_those_of_judge_on_the_validation_people(trained):
    gan, settings, data, folder = trained
    images = generate_images(gan.generator, fixed_latents(settings, 64))
    figures = judge(images, data.validate.images, data.train.images, settings.seed, callbacks.JUDGED_PROJECTIONS)
    for name in ("diversity_ratio", "high_frequency_ratio", "nearest_ratio"):
        assert read_history(folder)[name][1] == pytest.approx(figures[name], rel=1e-3)


def test_training_never_looks_at_the_test_people(oasis_folder, tmp_path):
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4)
    data = dataclasses.replace(load_slices(settings), test=None)
    assert training_callbacks(settings, tmp_path, data)


def test_real_images_are_measured_once_and_not_in_every_epoch(trained, monkeypatch):
    gan, settings, data, _ = trained
    judged = JudgeImages(data, settings)
    judged.set_model(gan)
    judged.set_params({"epochs": 2})
    measured = []
    power = realism.high_frequency_power
    monkeypatch.setattr(realism, "high_frequency_power", lambda images: measured.append(images) or power(images))
    for epoch in (0, 1):
        judged.on_epoch_end(epoch, logs := {})
        assert set(logs) == set(JUDGED_FIGURES)
    expected = generate_images(gan.generator, fixed_latents(settings, 64))
    assert len(measured) == 2
    for images in measured:
        np.testing.assert_array_equal(images, expected)


def test_history_of_older_runs_is_read_and_raises_no_alarm(tmp_path):
    (tmp_path / "history.csv").write_text(
        "epoch,generator_loss,discriminator_loss,ssim,seconds\n1,0.7,1.4,0.1,5\n2,0.7,1.4,0.1,9\n"
    )
    assert read_history(tmp_path)["epoch"].tolist() == [1, 2]
    assert describe_alarms(read_history(tmp_path)) == "Alarms in 2 epochs: none"


def write_history(folder, epoch, **logs):
    table = WriteHistory(folder)
    table.on_train_begin()
    table.on_epoch_begin(epoch)
    table.on_epoch_end(epoch, {"generator_loss": 1.0, "discriminator_loss": 1.0, "ssim": 0.5, **logs})


def test_an_alarm_is_said_when_it_is_raised_and_not_again_until_the_end(tmp_path, capsys):
    alarm = ShowAlarms(tmp_path)
    alarm.on_train_begin()
    said = []
    for epoch, loss in enumerate((1.0, 0.01, 0.01)):
        write_history(tmp_path, epoch, discriminator_loss=loss)
        alarm.on_epoch_end(epoch)
        said.append(capsys.readouterr().err.strip())
    alarm.on_train_end()
    said.append(capsys.readouterr().err.strip())
    assert said[0] == said[2] == ""
    assert said[1].startswith("Alarm in epoch 2. The discriminator has won: it knows every")
    assert said[3].startswith("Alarms in 3 epochs:\n- epochs 2, 3: The discriminator has won")


def test_one_figure_is_drawn_anew_in_judged_epochs_only(tmp_path, monkeypatch):
    drawn, shown = [], []

    class Display:
        def update(self, picture):
            shown.append(picture)

    monkeypatch.setattr(callbacks, "get_ipython", lambda: True)
    monkeypatch.setattr(callbacks, "display", lambda picture, display_id: shown.append(picture) or Display())
    draw = callbacks.plot_judgements
    monkeypatch.setattr(callbacks, "plot_judgements", lambda history: drawn.append(draw(history)) or drawn[-1])
    figures = ShowJudgements(tmp_path)
    figures.on_train_begin()
    judged = dict.fromkeys(JUDGED_FIGURES, 1.0)
    for epoch, logs in enumerate((judged, {}, judged)):
        write_history(tmp_path, epoch, **logs)
        figures.on_epoch_end(epoch, logs)
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in drawn] == [1, 3]
    assert [picture.alt for picture in shown] == [JUDGEMENTS_IN_WORDS] * 2
    assert not plt.get_fignums()


def test_every_step_leaves_its_losses(trained):
    gan, _, _, folder = trained
    table = np.genfromtxt(folder / "step_losses.csv", delimiter=",", names=True)
    assert table["step"].tolist() == [1, 2, 3, 4]
    for name in ("generator_loss", "discriminator_loss"):
        np.testing.assert_allclose(table[name].reshape(2, 2).mean(axis=1), gan.history.history[name], rtol=1e-4)


def test_tables_of_training_that_goes_on_in_another_folder_have_their_first_line(tmp_path):
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


def test_debug_keeps_images_and_networks_of_every_epoch(akoa_folder, tmp_path):
    gan, settings, data, folder = train(tmp_path, akoa_folder, "knee", debug=True)
    for name in ("TrainImages", "Intermediate"):
        grids = [imageio.imread(folder / name / f"epoch_000{epoch}.png") for epoch in (1, 2)]
        assert grids[0].shape == (4 * 34 - 2, 4 * 34 - 2)
        assert (grids[0] != grids[1]).any()
    training_images = {image.tobytes() for image in data.train.images}
    kept = imageio.imread(folder / "TrainImages" / "epoch_0001.png")
    assert kept[:32, :32].tobytes() in training_images
    models = sorted(path.name for path in (folder / "Models").iterdir())
    assert models == [f"{name}_epoch_000{epoch}.keras" for name in ("discriminator", "generator") for epoch in (1, 2)]
    loaded = keras.models.load_model(folder / "Models" / "generator_epoch_0002.keras")
    latents = fixed_latents(settings)
    np.testing.assert_allclose(loaded(latents), gan(latents), atol=1e-6)


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
        progress.on_epoch_end(epoch, {"generator_loss": 0.7 + epoch, "discriminator_loss": 1.3, "ssim": 0.25})
    progress.on_train_end()
    shown = [line.strip() for line in capsys.readouterr().err.split("\r")]
    assert "epoch 1 of 2, step 2 of 3, 0 s left" in shown
    figures = "last epoch: generator loss 0.700, discriminator loss 1.300, SSIM 0.250"
    assert f"epoch 2 of 2, step 1 of 3, 0 s left; {figures}" in shown
    assert shown[-1].startswith("2 epochs in 0 s; last epoch: generator loss 1.700")


def test_latents_are_fixed_by_the_seed():
    settings = choose_settings("brain", "smoke")
    np.testing.assert_array_equal(fixed_latents(settings), fixed_latents(settings))
    assert (np.array(fixed_latents(settings)) != np.array(fixed_latents(choose_settings(seed=2)))).any()


def test_training_can_go_on_from_a_later_epoch(trained):
    gan, settings, data, folder = trained
    gan.fit(
        training_batches(data.train.images, settings),
        initial_epoch=2,
        epochs=3,
        steps_per_epoch=2,
        callbacks=training_callbacks(settings, folder, data),
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
