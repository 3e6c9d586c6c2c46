import imageio.v3 as imageio
import keras
import numpy as np
import pytest

from gan_utils.callbacks import ShowProgress, WriteHistory, WriteStepLosses, fixed_latents, training_callbacks
from gan_utils.datasets import load_slices, scale_to_unit_range, training_batches
from gan_utils.dcgan import DCGAN
from gan_utils.figures import image_grid, read_history
from gan_utils.networks import build_networks, generate_images
from gan_utils.settings import choose_settings
from gan_utils.similarity import draw_reference_batches, local_moments, ssim, ssim_all_pairs


def train(folder, data_folder, experiment="brain", **changes):
    """A GAN trained for two epochs with the callbacks of notebook 3: (gan, settings, data, run folder)."""
    settings = choose_settings(
        experiment, "smoke", data=data_folder, batch_size=4, steps_per_epoch=2, ssim_batches=3, **changes
    )
    data = load_slices(settings)
    gan = DCGAN(*build_networks(settings), settings.updates, seed=settings.seed)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    batches = training_batches(data.train.images, settings)
    callbacks = training_callbacks(settings, folder, data)
    gan.fit(batches, epochs=2, steps_per_epoch=2, callbacks=callbacks, shuffle=False, verbose=0)
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


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 with NumPy 2
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
