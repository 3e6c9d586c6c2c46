from types import GeneratorType

import keras
import numpy as np
import pytest
import tensorflow as tf

from gan_utils.data import training_batches
from gan_utils.gan import (
    GAN,
    build_gan,
    discriminator_loss,
    generator_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from gan_utils.networks import (
    build_brain_discriminator,
    build_brain_generator,
    build_dcgan_discriminator,
    build_pair,
    translated,
)
from gan_utils.pair import describe_model
from gan_utils.settings import UPDATES, choose_settings


@pytest.fixture
def batches():
    images = np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 1)).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(images).batch(8)


def small_networks():
    return build_brain_generator(32, 4, generator_input_dim=4), build_brain_discriminator(32, 4)


def make_gan(updates="simultaneous", seed=1):
    keras.utils.set_random_seed(seed)
    gan = GAN(*small_networks(), updates, seed=seed)
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), run_eagerly=True)  # a graph takes longer
    return gan


def fit(gan, batches, **options):
    return gan.fit(batches, shuffle=False, verbose=0, **options)


def weights(network):
    return [np.array(weight) for weight in network.get_weights()]


def test_losses_have_their_known_values():
    undecided = np.zeros((4, 1), np.float32)
    assert float(discriminator_loss(undecided, undecided)) == pytest.approx(2 * np.log(2))
    assert float(generator_loss(undecided, undecided)) == pytest.approx(np.log(2))
    for relativistic in (relativistic_generator_loss, relativistic_discriminator_loss):
        assert float(relativistic(undecided, undecided)) == pytest.approx(np.log(2))
    sure = undecided + 20
    assert float(relativistic_discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(relativistic_generator_loss(sure, -sure)) == pytest.approx(40, rel=1e-6)
    assert float(discriminator_loss(sure, -sure)) == pytest.approx(0, abs=1e-6)
    assert float(discriminator_loss(-sure, sure)) == pytest.approx(40, rel=1e-6)
    assert float(generator_loss(-sure, sure)) == pytest.approx(0, abs=1e-6)
    assert float(generator_loss(sure, -sure)) == pytest.approx(20, rel=1e-6)


@pytest.mark.slow
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
    gans = [GAN(*small_networks(), updates, seed=1) for _ in discriminator_rates]
    for gan in gans:
        without_dropout(gan.discriminator)  # its random numbers would differ between the two
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


def without_dropout(network):
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


# ---- One step, and with other losses ---------------------------------------------------------------------------


RATE = 0.05


def least_squares_generator_loss(real_logits, fake_logits):
    """Mao et al. 2017, arXiv 1611.04076."""
    return tf.reduce_mean((fake_logits - 1) ** 2)


def least_squares_discriminator_loss(real_logits, fake_logits):
    return tf.reduce_mean((real_logits - 1) ** 2) + tf.reduce_mean(fake_logits**2)


def pairing_generator_loss(real_logits, fake_logits):
    """Not in the package: the distance within each pair, without the softplus of the relativistic losses."""
    return tf.reduce_mean(real_logits - fake_logits)


STOCK = {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
OWN_LOSSES = {
    "generator": {"generator_loss": least_squares_generator_loss},
    "discriminator": {"discriminator_loss": least_squares_discriminator_loss},
    "both": {"generator_loss": pairing_generator_loss, "discriminator_loss": relativistic_discriminator_loss},
}


@pytest.fixture
def real_images():
    return tf.constant(np.random.default_rng(0).uniform(-1, 1, (8, 32, 32, 1)).astype(np.float32))


def step_by_hand(pair, updates, real_images, latents, losses):
    """SGD of copies of two networks: (generator, discriminator, both losses)."""
    generator, discriminator = map(keras.models.clone_model, pair)
    for copy, network in zip((generator, discriminator), pair, strict=True):
        copy.set_weights(network.get_weights())

    def gradients(name, network):
        """All logits anew, from the networks as they are."""
        with tf.GradientTape() as tape:
            fake_logits = discriminator(generator(latents, training=True), training=True)
            loss = losses[name](discriminator(real_images, training=True), fake_logits)
        found = tape.gradient(loss, network.trainable_variables)
        assert max(float(tf.reduce_max(abs(gradient))) for gradient in found) > 0
        return float(loss), list(zip(network.trainable_variables, found, strict=True))

    def descend(moves):
        for weight, gradient in moves:
            weight.assign_sub(RATE * gradient)

    loss_of_discriminator, moves = gradients("discriminator_loss", discriminator)
    if updates == "alternating":
        descend(moves)
    loss_of_generator, moves_of_generator = gradients("generator_loss", generator)
    if updates == "simultaneous":
        descend(moves)
    descend(moves_of_generator)
    reported = {"generator_loss": loss_of_generator, "discriminator_loss": loss_of_discriminator}
    return generator, discriminator, reported


def trained_weights(network):
    return [np.array(weight) for weight in network.trainable_variables]


def furthest(network, other):
    pairs = zip(trained_weights(network), trained_weights(other), strict=True)
    return max(np.abs(one - two).max() for one, two in pairs)


@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("losses", [STOCK, *OWN_LOSSES.values()], ids=["stock", *OWN_LOSSES])
def test_a_step_is_the_one_done_by_hand(updates, losses, real_images):
    """With batch normalisation and a discriminator that compares the images of a batch."""
    losses = STOCK | losses
    gan = GAN(build_brain_generator(32, 4, generator_input_dim=4), build_dcgan_discriminator(32, 4), updates, **losses)
    gan.compile(keras.optimizers.SGD(RATE), keras.optimizers.SGD(RATE), run_eagerly=True)
    latents = tf.random.stateless_normal((8, gan.latent_dim), seed=(1, 2))
    *pair, reported = step_by_hand((gan.generator, gan.discriminator), updates, real_images, latents, losses)
    found = dict(zip(STOCK, gan.update(real_images, latents), strict=True))
    assert {name: float(loss) for name, loss in found.items()} == pytest.approx(reported, rel=1e-5)
    assert furthest(gan.generator, pair[0]) < 1e-6
    assert furthest(gan.discriminator, pair[1]) < 1e-6


def gan_made_by(route, updates, losses):
    """A `GAN` of the knees, whose networks have nothing random in them, with losses that came in by a route."""
    settings = choose_settings("knee", "smoke", updates=updates, batch_size=8)
    keras.utils.set_random_seed(1)
    if route == "GAN":
        gan = GAN(*build_pair(settings), updates, seed=settings.seed, **losses)
    else:
        gan = build_gan(settings, **(losses if route == "build_gan" else {}))
    gan.compile(keras.optimizers.SGD(RATE), keras.optimizers.SGD(RATE), run_eagerly=True)
    if route == "assigned":
        for name, loss in losses.items():
            setattr(gan, name, loss)
    return gan


@pytest.mark.slow
@pytest.mark.parametrize("updates", UPDATES)
@pytest.mark.parametrize("swapped", OWN_LOSSES)
@pytest.mark.parametrize("route", ["GAN", "build_gan", "assigned"])
def test_own_losses_are_those_that_are_trained_with(route, swapped, updates, real_images):
    gan = gan_made_by(route, updates, OWN_LOSSES[swapped])
    latents = keras.random.normal((8, gan.latent_dim), seed=keras.random.SeedGenerator(1))
    arguments = (gan.generator, gan.discriminator), updates, real_images, latents
    *own, reported = step_by_hand(*arguments, STOCK | OWN_LOSSES[swapped])
    *stock, stock_reported = step_by_hand(*arguments, STOCK)
    history = gan.fit(real_images, batch_size=8, epochs=1, shuffle=False, verbose=0).history
    assert {name: history[name][0] for name in STOCK} == pytest.approx(reported, rel=1e-5)
    for network, expected in zip((gan.generator, gan.discriminator), own, strict=True):
        assert furthest(network, expected) < 1e-6
    for name in OWN_LOSSES[swapped]:
        number = list(STOCK).index(name)
        assert abs(reported[name] - stock_reported[name]) > 1e-3
        assert furthest((gan.generator, gan.discriminator)[number], stock[number]) > 1e-5


@pytest.mark.parametrize("recipe", ["baseline", "improved"])
def test_own_networks_are_those_that_are_trained(recipe, real_images):
    layers = keras.layers
    pair = (
        keras.Sequential([keras.Input((5,)), layers.Dense(32 * 32), layers.Reshape((32, 32, 1))]),
        keras.Sequential([keras.Input((32, 32, 1)), layers.Flatten(), layers.Dense(1)]),
    )
    before = [weights(network) for network in pair]
    # In relativistic losses the last bias cancels out, and does not move.
    gan = build_gan(choose_settings("brain", "smoke", recipe, batch_size=8, loss="cross_entropy"), *pair)
    assert gan.latent_dim == 5
    gan.fit(real_images, batch_size=8, shuffle=False, verbose=0)
    for network, given, old in zip((gan.generator, gan.discriminator), pair, before, strict=True):
        assert [type(layer) for layer in network.layers] == [type(layer) for layer in given.layers]
        assert all((new != was).any() for new, was in zip(weights(network), old, strict=True))
        assert all((new == was).all() for new, was in zip(weights(given), old, strict=True))  # to start from again
    assert gan.averaged_generator(tf.zeros((2, 5))).shape == (2, 32, 32, 1)


def test_a_class_of_ones_own_is_the_one_that_is_trained(real_images):
    class TwiceAsBright(GAN):
        def discriminator_input(self, images, labels):
            return 2 * images

    gan = build_gan(choose_settings("brain", "smoke", "improved", batch_size=8), gan_class=TwiceAsBright)
    assert type(gan) is TwiceAsBright
    logits = gan.discriminate(real_images[:2], training=False)
    np.testing.assert_allclose(logits, gan.discriminator(2 * real_images[:2]), rtol=1e-5)
    gan.fit(real_images, batch_size=8, shuffle=False, verbose=0)
    assert gan.generator_optimizer.iterations == len(real_images) // 8


def test_settings_reach_the_gan():
    changes = {
        "penalty_weight": 0.3,
        "penalty_decay": 900,
        "penalty_interval": 7,
        "translation": 0.2,
        "ema_decay": 0.8,
        "beta_1": 0.7,
    }
    rates = {"generator_learning_rate": 0.01, "discriminator_learning_rate": 0.02}
    gan = build_gan(choose_settings("knee", "smoke", updates="simultaneous", **changes, **rates))
    assert gan.update == gan.update_simultaneously
    optimizers = gan.generator_optimizer, gan.discriminator_optimizer
    assert [float(optimizer.learning_rate) for optimizer in optimizers] == pytest.approx(list(rates.values()))
    assert {optimizer.beta_1 for optimizer in optimizers} == {changes.pop("beta_1")}
    assert {name: getattr(gan, name) for name in changes} == changes
    assert gan.averaged_generator is not gan.generator
    assert build_gan(choose_settings("knee", "smoke")).update.__name__ == "update_in_turn"


def test_unknown_order_of_updates_is_refused():
    with pytest.raises(ValueError, match="updates 'both' is not known; choose one of: simultaneous, alternating"):
        GAN(*small_networks(), "both")


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


@pytest.mark.slow
def test_same_seed_same_run(batches):
    first, second = (fit(make_gan(seed=3), batches, epochs=1).history["generator_loss"] for _ in range(2))
    assert first == pytest.approx(second, rel=1e-4)


# ---- The Keras way -----------------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("tests")
def registered_loss(real_logits, fake_logits):
    return tf.reduce_mean(tf.nn.softplus(real_logits - fake_logits))


@pytest.mark.slow
def test_keras_callbacks_that_users_add_work(batches, tmp_path):
    gan = make_gan()
    history = fit(
        gan,
        batches,
        epochs=3,
        validation_data=batches.take(1),
        callbacks=[
            keras.callbacks.ReduceLROnPlateau(monitor="loss", mode="min", patience=1, min_delta=9, factor=0.5),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.weights.h5", save_weights_only=True),
            keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss", mode="min"),
            keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
            keras.callbacks.EarlyStopping(monitor="val_generator_loss", mode="min", patience=5),
        ],
    ).history
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert history["learning_rate"] == pytest.approx([1e-3, 1e-3, 5e-4])
    assert {"val_generator_loss", "val_discriminator_loss", "val_loss"} <= history.keys()
    assert keras.models.load_model(tmp_path / "best.keras").generator_optimizer.iterations == 12
    restored = make_gan(seed=9)
    restored.load_weights(tmp_path / "3.weights.h5")
    for one, other in zip(weights(gan), weights(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        saved, loaded = (getattr(model, name).variables for model in (gan, restored))
        for one, other in zip(saved, loaded, strict=True):
            np.testing.assert_array_equal(np.array(one), np.array(other))


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "recipe"), [("brain", "baseline"), ("knee", "baseline"), ("brain", "improved")])
def test_a_saved_gan_is_loaded_and_trains_on(experiment, recipe, batches, tmp_path):
    """The brains' dropout goes on with other random numbers: Keras saves none of a layer's."""
    settings = choose_settings(experiment, "smoke", recipe, batch_size=8)
    gan = build_gan(settings)
    fit(gan, batches, epochs=1)
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    assert loaded.get_config().keys() == gan.get_config().keys()
    assert loaded.compiled
    histories = [fit(model, batches, epochs=2, initial_epoch=1).history for model in (gan, loaded)]
    exact = (experiment, recipe) != ("brain", "baseline")
    for name, losses in histories[0].items():
        assert histories[1][name] == pytest.approx(losses, rel=1e-4 if exact else 0.1)
    for one, other in zip(weights(gan.averaged_generator), weights(loaded.averaged_generator), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_gan_with_a_loss_of_ones_own_is_loaded(batches, tmp_path):
    losses = {"generator_loss": pairing_generator_loss, "discriminator_loss": registered_loss}
    gan = GAN(*small_networks(), **losses)
    gan.compile("adam", "adam")
    gan.save(tmp_path / "gan.keras")
    custom = {"pairing_generator_loss": pairing_generator_loss}
    loaded = keras.models.load_model(tmp_path / "gan.keras", custom_objects=custom)
    assert {name: getattr(loaded, name) for name in losses} == losses
    fit(loaded, batches, epochs=1)
    with pytest.raises(TypeError, match="pairing_generator_loss"):
        keras.models.load_model(tmp_path / "gan.keras")


def test_a_clone_is_untrained_and_trains_by_itself(batches):
    gan = make_gan()
    clone = keras.models.clone_model(gan)
    before = weights(gan)
    clone.compile("adam", "sgd")
    assert type(clone.discriminator_optimizer) is keras.optimizers.SGD
    fit(clone, batches, epochs=1)
    for one, other in zip(weights(gan), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_gan_that_was_never_compiled_is_saved_and_loaded(tmp_path):
    GAN(*small_networks()).save(tmp_path / "gan.keras")
    assert not keras.models.load_model(tmp_path / "gan.keras").compiled


# ---- What tells one model from another -----------------------------------------------------------------------------

TARGET = 1.0


def aiming(real_logits, fake_logits):
    return tf.reduce_mean((fake_logits - TARGET) ** 2)


def aiming_at(target):
    return lambda real_logits, fake_logits: tf.reduce_mean((fake_logits - target) ** 2)


def described(pair=None, **losses):
    gan = GAN(*(pair or small_networks()), **losses)
    gan.compile("adam", "adam")
    return describe_model(gan)


def test_models_that_are_built_alike_are_described_alike(monkeypatch):
    assert described() == described()
    one = described()
    monkeypatch.setattr(tf.distribute.get_strategy().__class__, "num_replicas_in_sync", 2)  # BatchNorm is synchronised
    assert described() == one


def test_every_other_network_loss_or_optimiser_is_described_otherwise(monkeypatch):
    stock = described()
    assert described((build_brain_generator(32, 4, generator_input_dim=8), small_networks()[1])) != stock
    mine = described(generator_loss=aiming)
    assert mine["generator_loss"] != stock["generator_loss"]
    in_graph = described(generator_loss=tf.function(aiming))
    assert "fake_logits - TARGET" in str(in_graph["generator_loss"])
    monkeypatch.setattr("test_gan.TARGET", 2.0)
    assert described(generator_loss=aiming) != mine
    assert described(generator_loss=tf.function(aiming)) != in_graph
    one, same, other = (described(generator_loss=aiming_at(target)) for target in (1, 1, 2))
    assert one == same
    assert one != other


SMOOTH = {"weight": 1.0}
cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)


def by_keras(real_logits, fake_logits):
    return SMOOTH["weight"] * cross_entropy(tf.ones_like(fake_logits), fake_logits)


def test_changed_tables_and_losses_of_keras_make_another_loss(monkeypatch):
    one = described(generator_loss=by_keras)
    assert described(generator_loss=by_keras) == one
    monkeypatch.setattr(
        "test_gan.cross_entropy", keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.3)
    )
    smooth = described(generator_loss=by_keras)
    monkeypatch.setitem(SMOOTH, "weight", 5.0)
    assert len({str(each) for each in (one, smooth, described(generator_loss=by_keras))}) == 3


def test_changed_code_of_a_layer_makes_another_network():
    def pair_with(function):
        class Bent(keras.layers.Layer):
            def call(self, values):
                return function(values)

        generator, discriminator = small_networks()
        return keras.Sequential([generator, Bent()]), discriminator

    gentle, steep = (described(pair_with(function)) for function in (keras.ops.tanh, lambda values: 100 * values))
    assert gentle["generator"] != steep["generator"]
    assert gentle["discriminator"] == steep["discriminator"]


def test_one_optimiser_for_both_networks_is_refused():
    optimizer = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="an optimiser of its own"):
        make_gan().compile(optimizer, optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["baseline", "improved"])
def test_validating_does_not_change_training(recipe, batches):
    settings = choose_settings("brain", "smoke", recipe, batch_size=8)
    trained = []
    for options in ({}, {"validation_data": batches}):
        keras.utils.set_random_seed(1)
        gan = build_gan(settings)
        history = fit(gan, batches, epochs=2, **options).history
        trained.append((history["generator_loss"], weights(gan.generator) + weights(gan.discriminator)))
    (losses, expected), (found_losses, found) = trained
    assert found_losses == losses
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    undecided = np.zeros((1, 1), np.float32)
    coin_toss = float(gan.discriminator_loss(undecided, undecided))
    assert history["val_discriminator_loss"][0] == pytest.approx(coin_toss, abs=0.5)


def test_held_out_images_are_answered_with_dropout_off(batches):
    gan = make_gan()
    first, second = (gan.evaluate(batches, verbose=0, return_dict=True)["discriminator_loss"] for _ in range(2))
    assert first == pytest.approx(second, rel=1e-3)  # the latents alone differ


class InPieces(keras.utils.PyDataset):
    def __init__(self, images):
        super().__init__()
        self.images = images

    def __len__(self):
        return 2

    def __getitem__(self, number):
        return (self.images[8 * number : 8 * number + 8],)


WRAPPED = {
    "array": lambda images: images,
    "tensor": tf.constant,
    "data set": lambda images: tf.data.Dataset.from_tensor_slices(images).batch(8),
    "data set with labels": lambda images: tf.data.Dataset.from_tensor_slices((images, images[:, 0, 0])).batch(8),
    "generator": lambda images: ((images[start : start + 8],) for start in (0, 8)),
    "pieces": InPieces,
}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_images_of_another_range_are_refused_with_the_fix(wrap):
    images = np.random.default_rng(0).uniform(-1, 1, (16, 32, 32, 1)).astype(np.float32)
    gan = make_gan()
    with pytest.raises(ValueError, match=r"Images span .*, expected -1 .* divide by 127\.5 and subtract 1"):
        fit(gan, wrap((images + 1) * 127.5))
    with pytest.raises(ValueError, match=r"Images span .*, expected -1 .* multiply by 2 and subtract 1"):
        fit(gan, wrap((images + 1) / 2))
    with pytest.raises(ValueError, match=r"Images span .*: clip them"):
        fit(gan, wrap(4 * images))
    fit(gan, wrap(images), steps_per_epoch=2 if isinstance(wrap(images), GeneratorType) else None)
    assert gan.generator_optimizer.iterations == (1 if isinstance(wrap(images), np.ndarray | tf.Tensor) else 2)


def test_tensorboard_that_is_not_installed_is_missed_before_training(batches, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    gan = make_gan()
    with pytest.raises(ImportError, match="pip install tensorboard"):
        fit(gan, batches, callbacks=[keras.callbacks.TensorBoard(tmp_path)])
    assert gan.generator_optimizer.iterations == 0


# ---- Conditions --------------------------------------------------------------------------------------------------


def conditional_gan(size):
    """A GAN that makes the slice of a given level, as a reader would write it in a notebook."""
    latents, level = keras.Input((8,)), keras.Input((1,))
    x = keras.layers.Dense(64, activation="relu")(keras.layers.Concatenate()([latents, level]))
    images = keras.layers.Reshape((size, size, 1))(keras.layers.Dense(size * size, activation="tanh")(x))
    generator = keras.Model([latents, level], images)

    image, its_level = keras.Input((size, size, 1)), keras.Input((1,))
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), its_level])
    x = keras.layers.Dense(64, activation="leaky_relu")(x)
    discriminator = keras.Model([image, its_level], keras.layers.Dense(1)(x))

    class ConditionalGAN(GAN):
        def generator_input(self, latents, levels):
            return [latents, levels]

        def discriminator_input(self, images, levels):
            return [images, levels]

    gan = ConditionalGAN(generator, discriminator, "alternating", penalty_weight=1.0, ema_decay=0.9, seed=1)
    gan.compile(keras.optimizers.Adam(2e-3, beta_1=0.5), keras.optimizers.Adam(2e-3, beta_1=0.5))
    return gan


@pytest.mark.slow
def test_a_conditional_gan_learns_what_a_level_looks_like():
    """Images are as bright as their level says; nothing else tells the generator."""
    keras.utils.set_random_seed(1)
    rng, size = np.random.default_rng(0), 8
    levels = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    grey = 40 + 170 * levels[:, :, None, None] + rng.uniform(-20, 20, (256, size, size, 1))
    settings = choose_settings("brain", "smoke", batch_size=32)
    batches = training_batches(grey.astype(np.uint8), settings, labels=levels)
    images, labels = next(iter(batches))
    np.testing.assert_allclose(np.mean(images, (1, 2, 3)), (40 + 170 * labels[:, 0]) / 127.5 - 1, atol=0.1)
    gan = conditional_gan(size)
    gan.fit(batches, steps_per_epoch=1000, epochs=1, shuffle=False, verbose=0, validation_data=batches.take(1))
    latents = rng.standard_normal((64, 8)).astype(np.float32)
    means = [float(np.mean(gan.averaged_generator([latents, np.full((64, 1), level)]))) for level in (0.1, 0.5, 0.9)]
    assert means == pytest.approx([(40 + 170 * level) / 127.5 - 1 for level in (0.1, 0.5, 0.9)], abs=0.2)


def test_training_stops_on_nan_where_the_user_asks_for_it(batches):
    gan = make_gan()
    gan.generator.layers[1].kernel.assign(gan.generator.layers[1].kernel * np.nan)
    fit(gan, batches, epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert len(gan.history.epoch) == 1


def gan_of_known_slopes(**options):
    """The slope of half the sum of squares is the image itself."""
    images = keras.Input((8, 8, 1))
    half_square = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.5))
    critic = keras.Model(images, half_square(keras.layers.Flatten()(images**2)))
    latents = keras.Input((4,))
    painter = keras.Model(latents, keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(latents)))
    gan = GAN(painter, critic, **options)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.0), run_eagerly=True)
    return gan


def test_penalty_is_the_mean_squared_slope_at_real_and_generated_images_and_paid_in_due_steps_only():
    gan = gan_of_known_slopes(penalty_weight=0.5, penalty_interval=3)
    real_images = tf.random.stateless_uniform((5, 8, 8, 1), seed=(1, 2))
    fake_images = tf.random.stateless_uniform((5, 8, 8, 1), seed=(3, 4)) - 1
    expected = 0.5 / 2 * 3 * float(tf.reduce_sum(real_images**2) + tf.reduce_sum(fake_images**2)) / 5
    paid = []
    for _ in range(6):
        paid.append(float(gan.gradient_penalty(real_images, fake_images)))
        gan.train_on_batch(real_images)
    assert paid == pytest.approx([expected, 0, 0, expected, 0, 0], rel=1e-5)


def test_weight_of_the_penalty_falls_to_a_tenth_and_stays_there():
    gan = gan_of_known_slopes(penalty_weight=0.5, penalty_decay=16, penalty_interval=1)
    images, paid = tf.ones((4, 8, 8, 1)), []
    for steps_done in (0, 2, 4, 400):  # of four images each
        gan.discriminator_optimizer.iterations.assign(steps_done)
        paid.append(float(gan.gradient_penalty(images, images)))
    assert paid == pytest.approx([32, 32 * 0.1**0.5, 3.2, 3.2], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("updates", UPDATES)
def test_penalty_makes_the_discriminator_flatter(batches, updates):
    slopes = []
    for gamma in (0.0, 10.0):
        keras.utils.set_random_seed(1)
        gan = GAN(*small_networks(), updates, penalty_weight=gamma, penalty_interval=2, seed=1)
        gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
        fit(gan, batches, epochs=15)
        images = next(iter(batches))
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = gan.discriminator(images, training=False)
        slopes.append(float(tf.norm(tape.gradient(logits, images))))
    assert slopes[1] < 0.6 * slopes[0]


def test_averaged_generator_follows_slowly(batches):
    """And in the first steps less slowly, so that the untrained weights are soon forgotten."""
    keras.utils.set_random_seed(1)
    gan = GAN(*small_networks(), ema_decay=0.3, seed=1)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2), run_eagerly=True)
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


def test_a_network_that_could_not_be_loaded_again_is_refused_before_training():
    inner = keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Lambda(lambda images: 2 * images), keras.layers.Flatten()]
    )
    own = keras.Sequential([keras.Input((32, 32, 1)), inner, keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"your discriminator has a Lambda layer, .* use keras\.ops, or a layer class"):
        build_gan(choose_settings("brain", "smoke"), discriminator=own)


def test_translation_moves_whole_images_and_moves_black_in():
    rng = np.random.default_rng(0)
    images = rng.uniform(-0.9, 0.9, (200, 16, 16, 1)).astype(np.float32)
    moved = np.array(translated(images, 0.25, keras.random.SeedGenerator(1)))
    assert moved.shape == images.shape
    shifts = set()
    for before, after in zip(images[..., 0], moved[..., 0], strict=True):
        padded = np.pad(before, 4, constant_values=-1)
        found = [(y, x) for y in range(9) for x in range(9) if (padded[y : y + 16, x : x + 16] == after).all()]
        assert len(found) == 1
        shifts.add(found[0])
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(9))  # every shift occurs, both ways


def test_real_and_generated_images_are_translated_before_the_discriminator_sees_them():
    gan = GAN(*small_networks(), translation=0.25, seed=1)
    image = np.full((4, 32, 32, 1), -1, np.float32)
    image[:, 12:20, 12:20] = 1
    plain = np.array(gan.discriminator(image, training=False))
    without_dropout(gan.discriminator)
    translated_logits = np.array(gan.discriminate(image))
    assert np.ptp(plain) < 1e-6
    assert np.ptp(translated_logits) > 1e-6
