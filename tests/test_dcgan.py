import keras
import numpy as np
import pytest
import tensorflow as tf

from gan_utils.dcgan import DCGAN, discriminator_loss, generator_loss
from gan_utils.networks import build_discriminator, build_generator


@pytest.fixture
def batches():
    images = np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


def make_gan(seed=1):
    keras.utils.set_random_seed(seed)
    gan = DCGAN(build_generator(32, 4), build_discriminator(32, 4), seed=seed)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return gan


def fit(gan, batches, **options):
    return gan.fit(batches, shuffle=False, verbose=0, **options)


def weights(network):
    return [np.array(weight) for weight in network.get_weights()]


def test_losses_have_their_known_values():
    undecided = np.zeros((4, 1), np.float32)
    assert float(discriminator_loss(undecided, undecided)) == pytest.approx(2 * np.log(2))
    assert float(generator_loss(undecided)) == pytest.approx(np.log(2))
    sure = undecided + 20
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(discriminator_loss(-sure, sure)) == pytest.approx(40, rel=1e-6)
    assert float(generator_loss(sure)) == pytest.approx(0, abs=1e-6)
    assert float(generator_loss(-sure)) == pytest.approx(20, rel=1e-6)


def test_training_moves_every_weight_of_both_networks(batches):
    gan = make_gan()
    before = weights(gan.generator), weights(gan.discriminator)
    fit(gan, batches, epochs=1)
    for network, old in zip((gan.generator, gan.discriminator), before, strict=True):
        assert all((new != was).any() for new, was in zip(weights(network), old, strict=True))


def test_both_networks_are_updated_from_one_pass():
    """The published order: the generator's gradient comes from the discriminator as it was before the step."""
    real_images = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32)
    gans = [DCGAN(build_generator(32, 4), build_discriminator(32, 4), seed=1) for _ in range(2)]
    gans[1].set_weights(gans[0].get_weights())
    for gan, rate in zip(gans, (0.0, 0.1), strict=True):
        for layer in gan.discriminator.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0  # its draws would differ between the two
        gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(rate), run_eagerly=True)
        gan.train_on_batch(real_images)
    for one, other in zip(weights(gans[0].generator), weights(gans[1].generator), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert (weights(gans[0].discriminator)[0] != weights(gans[1].discriminator)[0]).any()


def test_discriminator_learns_to_tell_a_frozen_generator_from_real_images(batches):
    gan = make_gan()
    gan.compile(keras.optimizers.Adam(1e-9), keras.optimizers.Adam(1e-2))
    history = fit(gan, batches, epochs=10).history["discriminator_loss"]
    assert history[-1] < 0.5 * history[0]


def test_history_holds_epoch_means(batches):
    gan = make_gan()

    class StepLosses(keras.callbacks.Callback):
        means = ()

        def on_train_batch_end(self, batch, logs=None):
            self.means += (logs["generator_loss"],)

    steps = StepLosses()
    history = fit(gan, batches, epochs=2, callbacks=[steps]).history["generator_loss"]
    # What Keras hands to callbacks after a step is the running mean since the epoch began.
    running = np.reshape(steps.means, (2, 4))
    single_steps = running * [1, 2, 3, 4] - np.pad(running[:, :-1] * [1, 2, 3], ((0, 0), (1, 0)))
    assert history == pytest.approx(single_steps.mean(axis=1))
    assert gan.loss_means["generator_loss"].count == 4  # it started afresh in the second epoch
    assert single_steps.std() > 0


def test_same_seed_same_run(batches):
    first, second = (fit(make_gan(seed=3), batches, epochs=1).history["generator_loss"] for _ in range(2))
    assert first == pytest.approx(second, rel=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15 with NumPy 2
def test_keras_callbacks_that_users_add_work(batches, tmp_path):
    gan = make_gan()
    fit(
        gan,
        batches,
        epochs=2,
        callbacks=[
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
            keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
            keras.callbacks.EarlyStopping(monitor="generator_loss", mode="min", patience=5),
            keras.callbacks.ReduceLROnPlateau(monitor="discriminator_loss", mode="min", patience=5),
            keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 / (epoch + 1)),
        ],
    )
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert float(gan.optimizer.learning_rate) == pytest.approx(5e-4)
    restored = make_gan(seed=9)
    restored.load_weights(tmp_path / "2.weights.h5")
    for one, other in zip(weights(gan), weights(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        saved, loaded = (getattr(model, name).variables for model in (gan, restored))
        for one, other in zip(saved, loaded, strict=True):
            np.testing.assert_array_equal(np.array(one), np.array(other))


def test_training_stops_on_nan_where_the_user_asks_for_it(batches):
    gan = make_gan()
    gan.generator.layers[1].kernel.assign(gan.generator.layers[1].kernel * np.nan)
    fit(gan, batches, epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert len(gan.history.epoch) == 1
