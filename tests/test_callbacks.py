import keras
import numpy as np
import pytest

from gan_utils.callbacks import fixed_latents, training_callbacks
from gan_utils.datasets import load_slices, scale_to_unit_range, training_batches
from gan_utils.dcgan import DCGAN
from gan_utils.figures import image_grid, read_history
from gan_utils.networks import build_networks
from gan_utils.settings import choose_settings
from gan_utils.similarity import draw_reference_batches, local_moments, ssim


@pytest.fixture
def trained(oasis_folder, tmp_path):
    """A GAN trained for two epochs with the callbacks of notebook 3: (gan, settings, data, run folder)."""
    settings = choose_settings("brain", "smoke", data=oasis_folder, batch_size=4, steps_per_epoch=2, ssim_batches=3)
    data = load_slices(settings)
    gan = DCGAN(*build_networks(settings), seed=settings.seed)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    batches = training_batches(data.train.images, settings)
    callbacks = training_callbacks(settings, tmp_path, data)
    gan.fit(batches, epochs=2, steps_per_epoch=2, callbacks=callbacks, shuffle=False, verbose=0)
    return gan, settings, data, tmp_path


def test_every_epoch_leaves_a_grid_of_the_same_latents(trained):
    gan, settings, _, folder = trained
    import imageio.v3 as imageio

    grids = [imageio.imread(folder / f"image_at_epoch_000{epoch}.png") for epoch in (1, 2)]
    assert (grids[0] != grids[1]).any()
    np.testing.assert_array_equal(grids[1], image_grid(gan(fixed_latents(settings), training=False)))


def test_history_has_a_line_an_epoch_counted_from_one(trained):
    gan, _, _, folder = trained
    history = read_history(folder)
    assert history["epoch"].tolist() == [1, 2]
    for name in ("generator_loss", "discriminator_loss", "ssim"):
        np.testing.assert_allclose(history[name], gan.history.history[name], rtol=1e-5)
    assert history["seconds"][1] >= history["seconds"][0] >= 0


def test_ssim_of_an_epoch_is_the_published_maximum(trained):
    gan, settings, data, folder = trained
    images = np.array(gan(fixed_latents(settings), training=False))
    references = draw_reference_batches(data.train.images, settings)
    pairs = [ssim(local_moments(images), references[batch]) for batch in range(settings.ssim_batches)]
    assert read_history(folder)["ssim"][1] == pytest.approx(np.max(pairs), abs=1e-5)


def test_ssim_finds_a_training_image(trained):
    _, settings, data, _ = trained
    references = draw_reference_batches(data.train.images, settings)
    drawn = references[0].images[:, :, :, None] - 1
    assert scale_to_unit_range(data.train.images).numpy().min() >= -1
    assert ssim(local_moments(drawn), references[0]).max() == pytest.approx(1, abs=1e-6)


def test_progress_tells_epoch_losses_and_time_left(trained, capsys):
    gan, settings, data, folder = trained
    batches = training_batches(data.train.images, settings)
    callbacks = training_callbacks(settings, folder, data)
    callbacks[-1].on_train_begin = lambda logs=None: type(callbacks[-1]).on_train_begin(callbacks[-1])
    gan.fit(batches, epochs=2, steps_per_epoch=2, callbacks=callbacks, shuffle=False, verbose=0)
    shown = capsys.readouterr().err
    for words in ("epoch 1 of 2", "s left", "generator loss", "discriminator loss", "SSIM", "2 epochs in"):
        assert words in shown


def test_latents_are_fixed_by_the_seed():
    settings = choose_settings("brain", "smoke")
    np.testing.assert_array_equal(fixed_latents(settings), fixed_latents(settings))
    assert (np.array(fixed_latents(settings)) != np.array(fixed_latents(choose_settings(seed=2)))).any()
