import keras
import numpy as np
import pytest
import tensorflow as tf

from gan_utils.dcgan import DCGAN, FusedAdam, discriminator_loss, generator_loss, slope_ratio, translated
from gan_utils.networks import (
    build_brain_discriminator,
    build_brain_generator,
    build_dcgan_discriminator,
    build_knee_discriminator,
    build_knee_generator,
)
from gan_utils.settings import UPDATES


@pytest.fixture
def batches():
    images = np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


def small_networks():
    return build_brain_generator(32, 4, generator_input_dim=4), build_brain_discriminator(32, 4)


def make_gan(updates="simultaneous", seed=1):
    keras.utils.set_random_seed(seed)
    gan = DCGAN(*small_networks(), updates, seed=seed)
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


@pytest.mark.parametrize("updates", UPDATES)
def test_training_moves_every_weight_of_both_networks(batches, updates):
    gan = make_gan(updates)
    before = weights(gan.generator), weights(gan.discriminator)
    fit(gan, batches, epochs=1)
    for network, old in zip((gan.generator, gan.discriminator), before, strict=True):
        assert all((new != was).any() for new, was in zip(weights(network), old, strict=True))


def generators_after_one_step(updates, discriminator_rates):
    """Weights of the generator after a step of the same GAN, for each learning rate of the discriminator."""
    real_images = np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32)
    gans = [DCGAN(*small_networks(), updates, seed=1) for _ in discriminator_rates]
    for gan in gans:
        without_dropout(gan.discriminator)  # its draws would differ between the two
    start = gans[0].get_weights()
    for gan, rate in zip(gans, discriminator_rates, strict=True):
        gan.set_weights(start)
        before = weights(gan.discriminator)
        gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(rate), run_eagerly=True)
        gan.train_on_batch(real_images)
        moved = any((new != old).any() for new, old in zip(weights(gan.discriminator), before, strict=True))
        assert moved == (rate > 0)
    return [weights(gan.generator) for gan in gans]


def test_simultaneous_update_uses_the_discriminator_as_it_was_before_the_step():
    first, second = generators_after_one_step("simultaneous", (0.0, 0.1))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_alternating_update_uses_the_discriminator_as_it_is_after_its_own():
    first, second = generators_after_one_step("alternating", (0.0, 0.1))
    assert max(np.abs(one - other).max() for one, other in zip(first, second, strict=True)) > 1e-4


def test_alternating_update_is_the_two_steps_done_by_hand():
    """The discriminator's SGD step, then the generator's through the new discriminator, whose weights are held."""
    rate = 0.05
    real_images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32))
    gan, by_hand = (DCGAN(build_knee_generator(32, 4), build_knee_discriminator(32, 4), "alternating") for _ in "ab")
    by_hand.set_weights(gan.get_weights())
    gan.compile(keras.optimizers.SGD(rate), keras.optimizers.SGD(rate), run_eagerly=True)
    latents = tf.random.stateless_normal((8, gan.latent_dim), seed=(1, 2))
    gan.update_in_turn(real_images, latents)

    def step(network, loss):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, network.trainable_variables)
        for weight, gradient in zip(network.trainable_variables, gradients, strict=True):
            weight.assign_sub(rate * gradient)

    judge = by_hand.discriminator
    step(judge, lambda: discriminator_loss(judge(real_images), judge(by_hand(latents))))
    step(by_hand.generator, lambda: generator_loss(judge(by_hand(latents))))
    for one, other in zip(weights(gan), weights(by_hand), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def without_dropout(network):
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


@pytest.mark.parametrize("minibatch_std", [False, True])
@pytest.mark.parametrize("offset", [-30.0, 0.0, 30.0], ids="logits near {}".format)
def test_simultaneous_update_is_both_gradients_worked_out_apart(minibatch_std, offset):
    """Also where the discriminator is almost sure; through it once where it judges image by image, twice elsewhere."""
    rate = 0.05
    real_images = tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32))
    build = (lambda: build_dcgan_discriminator(32, 4)) if minibatch_std else (lambda: build_brain_discriminator(32, 4))
    gan, by_hand = (DCGAN(build_brain_generator(32, 4, generator_input_dim=4), build()) for _ in "ab")
    by_hand.set_weights(gan.get_weights())
    for each in (gan, by_hand):
        without_dropout(each.discriminator)
        each.discriminator.get_layer("logit").bias.assign([offset])
    assert gan.judges_one_by_one != minibatch_std
    gan.compile(keras.optimizers.SGD(rate), keras.optimizers.SGD(rate), run_eagerly=True)
    latents = tf.random.stateless_normal((8, gan.latent_dim), seed=(1, 2))
    gan.update_simultaneously(real_images, latents)

    with tf.GradientTape(persistent=True) as tape:
        fake_logits = by_hand.discriminator(by_hand.generator(latents, training=True), training=True)
        loss_of_generator = generator_loss(fake_logits)
        loss_of_discriminator = discriminator_loss(by_hand.discriminator(real_images, training=True), fake_logits)
    for network, loss in ((by_hand.generator, loss_of_generator), (by_hand.discriminator, loss_of_discriminator)):
        gradients = tape.gradient(loss, network.trainable_variables)
        assert max(float(tf.reduce_max(abs(gradient))) for gradient in gradients) > 0
        for weight, gradient in zip(network.trainable_variables, gradients, strict=True):
            weight.assign_sub(rate * gradient)
    for one, other in zip(weights(gan), weights(by_hand), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_slopes_of_hopeless_images_stay_finite():
    assert np.isfinite(slope_ratio(tf.constant([[-500.0], [0.0], [500.0]]))).all()
    np.testing.assert_allclose(slope_ratio(tf.constant([[np.log(3.0)]])), [[-1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("beta_1", [0.5, 0.9])
def test_fused_adam_is_keras_adam(beta_1):
    draw = np.random.default_rng(0)
    start = draw.standard_normal((50, 3)).astype(np.float32)
    gradients = draw.standard_normal((6, 50, 3)).astype(np.float32)
    results = []
    for optimizer in (keras.optimizers.Adam(0.01, beta_1=beta_1), FusedAdam(0.01, beta_1=beta_1)):
        variable = keras.Variable(start)
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        results.append([each.numpy() for each in (variable, *optimizer.variables)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_fused_adam_is_saved_with_its_settings():
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(FusedAdam(0.02, beta_1=0.5)))
    assert (type(optimizer), float(optimizer.learning_rate), optimizer.beta_1) == (FusedAdam, pytest.approx(0.02), 0.5)


def test_unknown_order_of_updates_is_refused():
    with pytest.raises(ValueError, match="updates 'both' is not known; choose one of: simultaneous, alternating"):
        DCGAN(*small_networks(), "both")


def test_discriminator_learns_to_tell_a_frozen_generator_from_real_images(batches):
    gan = make_gan()
    gan.compile(keras.optimizers.Adam(1e-9), keras.optimizers.Adam(1e-2))
    history = fit(gan, batches, epochs=10).history["discriminator_loss"]
    assert history[-1] < 0.5 * history[0]


def test_history_holds_epoch_means_and_step_callbacks_see_single_steps(batches):
    gan = make_gan()

    class StepLosses(keras.callbacks.Callback):
        losses = ()

        def on_train_batch_end(self, batch, logs=None):
            self.losses += (logs["generator_loss"],)

    steps = StepLosses()
    history = fit(gan, batches, epochs=2, callbacks=[steps]).history["generator_loss"]
    single_steps = np.reshape(steps.losses, (2, 4))
    assert history == pytest.approx(single_steps.mean(axis=1))
    assert gan.loss_means["generator_loss"].count == 4  # it started afresh in the second epoch
    assert single_steps.std() > 0


def test_same_seed_same_run(batches):
    first, second = (fit(make_gan(seed=3), batches, epochs=1).history["generator_loss"] for _ in range(2))
    assert first == pytest.approx(second, rel=1e-4)


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


def test_penalty_is_the_mean_squared_slope_around_real_images_and_paid_in_due_steps_only():
    """A linear discriminator has the same slope everywhere: its weights."""
    images = keras.Input((8, 8, 1))
    judge = keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(images)))
    latents = keras.Input((4,))
    painter = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(latents)))
    gan = DCGAN(painter, judge, r1_gamma=0.5, r1_interval=3)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0), run_eagerly=True)
    real_images = tf.random.stateless_uniform((5, 8, 8, 1), seed=(1, 2))
    expected = 0.5 / 2 * 3 * float(np.sum(judge.get_weights()[0] ** 2))
    paid = []
    for _ in range(6):
        paid.append(float(gan.gradient_penalty(real_images)))
        gan.train_on_batch(real_images)
    assert paid == pytest.approx([expected, 0, 0, expected, 0, 0], rel=1e-5)


@pytest.mark.parametrize("updates", UPDATES)
def test_penalty_makes_the_discriminator_flatter(batches, updates):
    slopes = []
    for gamma in (0.0, 10.0):
        keras.utils.set_random_seed(1)
        gan = DCGAN(*small_networks(), updates, r1_gamma=gamma, r1_interval=2, seed=1)
        gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
        fit(gan, batches, epochs=15)
        images = next(iter(batches))
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = gan.discriminator(images, training=False)
        slopes.append(float(tf.norm(tape.gradient(logits, images))))
    assert slopes[1] < 0.6 * slopes[0]


def test_averaged_generator_follows_slowly(batches):
    keras.utils.set_random_seed(1)
    """And in the first steps less slowly, so that the untrained weights are soon forgotten."""
    gan = DCGAN(*small_networks(), ema_decay=0.3, seed=1)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    expected = weights(gan.generator)
    for decay in (2 / 11, 3 / 12, 0.3, 0.3):
        fit(gan, batches.take(1), epochs=1)
        pairs = zip(expected, weights(gan.generator), strict=True)
        expected = [decay * old + (1 - decay) * new for old, new in pairs]
    for average, wanted in zip(weights(gan.averaged_generator), expected, strict=True):
        np.testing.assert_allclose(average, wanted, atol=1e-5)
    assert any((a != b).any() for a, b in zip(weights(gan.averaged_generator), weights(gan.generator), strict=True))


def test_without_averaging_the_generator_itself_makes_the_images():
    gan = make_gan()
    assert gan.averaged_generator is gan.generator


def test_translation_moves_whole_images_and_moves_black_in():
    draw = np.random.default_rng(0)
    images = draw.uniform(-0.9, 0.9, (200, 16, 16, 1)).astype(np.float32)
    moved = np.array(translated(images, 0.25, keras.random.SeedGenerator(1)))
    assert moved.shape == images.shape
    shifts = set()
    for before, after in zip(images[..., 0], moved[..., 0], strict=True):
        padded = np.pad(before, 4, constant_values=-1)
        found = [(y, x) for y in range(9) for x in range(9) if (padded[y : y + 16, x : x + 16] == after).all()]
        assert len(found) == 1
        shifts.add(found[0])
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(9))  # every shift occurs, both ways


def test_real_and_generated_images_are_translated_before_they_are_judged():
    gan = DCGAN(*small_networks(), translation=0.25, seed=1)
    image = np.full((4, 32, 32, 1), -1, np.float32)
    image[:, 12:20, 12:20] = 1
    plain = np.array(gan.discriminator(image, training=False))
    for layer in gan.discriminator.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    judged = np.array(gan.judge(image))
    assert np.ptp(plain) < 1e-6
    assert np.ptp(judged) > 1e-6
