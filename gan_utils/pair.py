"""What Keras asks of a model with two networks: to be compiled, saved, loaded and resumed. The lesson is in gan.py."""

import functools
import importlib.util
import inspect
import itertools
import json
import textwrap
import types
import zipfile
import zlib
from contextlib import contextmanager

import keras
import numpy as np

from gan_utils import DataError, atomic_write, short_path
from gan_utils.data import how_to_scale
from gan_utils.networks import layers_of

NETWORKS, LOSSES = ("generator", "discriminator"), ("generator_loss", "discriminator_loss")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
RANDOM = ("random", "validation_random")
STATE = "state.npz"


class NetworkPair(keras.Model):
    """A generator and a discriminator with their losses; how they train is up to `GAN`.

    `save`, `clone_model` and `keras.models.load_model` work as for any Keras model. A loss of your own has to be named
    when it is loaded, `load_model(path, custom_objects={"my_loss": my_loss})`, or registered when it is defined, with
    `@keras.saving.register_keras_serializable()`; so do layers and subclasses of your own.
    """

    def __init__(self, generator, discriminator, generator_loss, discriminator_loss, **options):
        super().__init__(**options)
        self.generator, self.discriminator = generator, discriminator
        self.generator_loss, self.discriminator_loss = generator_loss, discriminator_loss
        # "loss" is there for callbacks that watch it by this name, such as keras.callbacks.TerminateOnNaN.
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in (*LOSSES, "loss")}

    @property
    def metrics(self):
        return list(self.loss_means.values())  # listed here, so that Keras resets them at each epoch

    def call(self, inputs, training=False):
        """What the generator makes of its input, latents (images, latent_dim) in most networks."""
        return self.generator(inputs, training=training)

    def compile(self, generator_optimizer, discriminator_optimizer, **options):
        """One optimiser a network, or its name; options are those of `keras.Model.compile`.

        Callbacks that change `model.optimizer.learning_rate` act on the generator's.
        """
        optimizers = [keras.optimizers.get(each) for each in (generator_optimizer, discriminator_optimizer)]
        if optimizers[0] is optimizers[1]:
            raise ValueError("each network needs an optimiser of its own, not the same one twice")
        super().compile(optimizer=optimizers[0], **{"jit_compile": False, **options})
        self.generator_optimizer, self.discriminator_optimizer = optimizers
        # Built here rather than in the first step, so that checkpoints hold the optimisers' state, too.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)

    def get_compile_config(self):
        if not self.compiled:
            return None
        optimizers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in OPTIMIZERS}
        return {**optimizers, "jit_compile": self.jit_compile, "steps_per_execution": self.steps_per_execution}

    def compile_from_config(self, config):
        optimizers = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in OPTIMIZERS}
        self.compile(**optimizers, **config)

    def get_config(self):
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in (*NETWORKS, *LOSSES)}
        return {"name": self.name, **parts}

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in (*NETWORKS, *LOSSES)}
        return cls(**config | parts)

    def save_own_variables(self, store):
        """How far the random numbers have come, which Keras leaves out of its files."""
        for name in RANDOM:
            store[name] = getattr(self, name).state

    def load_own_variables(self, store):
        for name in RANDOM:
            getattr(self, name).state.assign(store[name])

    def fit(self, x=None, *args, callbacks=None, **options):
        """Train as `keras.Model.fit` does.

        Args:
            x: real images, float (images, height, width, 1) from -1 to 1, in anything that Keras takes.

        Raises:
            ValueError: the images are of another range, usually 0..255 or 0..1.
            ImportError: TensorBoard is asked for, and not installed.
        """
        listed = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
        wanted = any(isinstance(each, keras.callbacks.TensorBoard) for each in listed)
        if wanted and not importlib.util.find_spec("tensorboard"):
            raise ImportError("The callback TensorBoard needs a package of its own: pip install tensorboard")
        return super().fit(with_range_checked(x), *args, callbacks=callbacks, **options)


def copied(network, kind, image_size):
    """A copy, weights and all, of a generator or discriminator of one's own, whose images have to fit."""
    if not getattr(network, "inputs", None):
        raise ValueError(f"begin your {kind} with keras.Input, so that its shapes are known")
    shape = tuple((network.outputs if kind == "generator" else network.inputs)[0].shape[1:3])
    if shape != (image_size, image_size):
        raise ValueError(f"images of your {kind} are {shape} pixels, image_size is {image_size}: change either")
    if any(isinstance(layer, keras.layers.Lambda) for layer in layers_of(network)):
        raise ValueError(
            f"your {kind} has a Lambda layer, which cannot be loaded again: use keras.ops, or a layer class"
        )
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def with_range_checked(x):
    """The training data as they are, once their first batch has been found to be within -1..1, and to reach below 0."""
    first, x = first_batch(x)
    images = np.asarray(first[0] if isinstance(first, list | tuple) else first)
    least, most = float(images.min()), float(images.max())
    if not (-1.001 <= least < 0 and most <= 1.001):
        raise ValueError(
            f"Images span {least:g}..{most:g}, expected -1 (black) to 1 (white): {how_to_scale(least, most)}. "
            "(`data.training_batches` does it for slices.)"
        )
    return x


def first_batch(x):
    """(first batch, data that still have it)."""
    if isinstance(x, types.GeneratorType):
        first = next(x)
        return first, (batch for batch in itertools.chain([first], x))
    if isinstance(x, keras.utils.PyDataset):
        return x[0], x
    return (x if hasattr(x, "shape") else next(iter(x))), x


# ---- the state of training ---------------------------------------------------------------------------------


def save_state(model, folder, epochs_done):
    """Write state.npz: all that training needs to resume after a whole epoch as if it had never been cut off.

    These are the weights of all networks, what both optimisers remember, the states of all random generators, and the
    number of epochs done, from which the order of the training images follows. One file, replaced atomically: a kill
    at any moment leaves the state of a whole epoch.
    """
    arrays = {name: variable.numpy() for name, variable in named_variables(model).items()}
    with atomic_write(folder / STATE) as path:
        np.savez(path, epochs_done=epochs_done, **arrays)


def restore_state(model, folder):
    """Put a compiled `GAN` into the state that `save_state` wrote; returns the epochs done, 0 without a state."""
    variables = named_variables(model)
    with open_state(folder) as state:
        if state is None:
            return 0
        arrays = dict(state)  # each is read from the file when it is asked for, so here once
        epochs_done = int(arrays.pop("epochs_done"))
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise DataError(
                f"{short_path(folder / STATE)} holds other networks than these settings build, usually those of "
                "another version of gan_utils. Rename the folder, and training starts anew."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        return epochs_done


def epochs_done(folder):
    """How many whole epochs the run in a folder can continue after; 0 without a state."""
    with open_state(folder) as state:
        return int(state["epochs_done"]) if state else 0


@contextmanager
def open_state(folder):
    path = folder / STATE
    if not path.exists():
        yield None
        return
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as state:  # numbers only, never code
            yield state
    except DataError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{short_path(path)} is broken ({error}). Delete it, and training starts anew.") from error


def named_variables(model):
    """{name: variable} of everything that changes while a compiled `GAN` trains."""
    owners = {"gan": model, **{name: getattr(model, name) for name in OPTIMIZERS}}
    return {f"{owner} {n}": variable for owner, thing in owners.items() for n, variable in enumerate(thing.variables)}


# ---- what tells one model from another ---------------------------------------------------------------------


def describe_model(model):
    """What tells a compiled `GAN` from others beside its settings: {part: lines of text}.

    Networks by their layers, optimisers by their arguments, losses and a class of one's own by their code.
    """
    described = {name: describe_network(getattr(model, name)) for name in NETWORKS}
    described |= {name: code_of(getattr(model, name)) for name in LOSSES}
    for name in OPTIMIZERS:
        optimizer = getattr(model, name)
        described[name] = [type(optimizer).__name__, json.dumps(without_names(optimizer.get_config()), default=str)]
    ours = type(model).__module__.startswith("gan_utils")
    return {**described, "class": ["GAN"] if ours else code_of(type(model))}


def describe_network(network):
    try:
        entries = network.get_config()["layers"]
    except (NotImplementedError, KeyError):  # a subclass that is not made of a plan of layers
        return [*code_of(type(network)), str([tuple(weight.shape) for weight in network.weights])]
    numbers = {layer.name: f"layer {number}" for number, layer in enumerate(network.layers)}
    own = {type(layer) for layer in network.layers if not type(layer).__module__.startswith(("keras", "gan_utils"))}
    codes = [line for kind in sorted(own, key=lambda kind: kind.__name__) for line in code_of(kind)]
    return [*(json.dumps(without_names(entry, numbers), default=str) for entry in entries), *codes]


def without_names(config, numbers=()):
    """A configuration without what differs between two networks that are built alike, or between versions of Keras."""
    if isinstance(config, dict):
        # "synchronized" follows from the number of devices.
        dropped = ("name", "dtype", "build_config", "shared_object_id", "module", "registered_name", "synchronized")
        kept = {key: without_names(value, numbers) for key, value in config.items() if key not in dropped}
        return {key: value for key, value in kept.items() if value is not None}
    if isinstance(config, list | tuple):
        return [without_names(value, numbers) for value in config]
    return numbers.get(config, config) if numbers and isinstance(config, str) else config


def code_of(thing, seen=()):
    """The code of a function or class as lines, with the numbers and functions of the same module that it uses."""
    thing = getattr(thing, "python_function", thing)  # of a tf.function
    if thing in seen:
        return []
    seen = (*seen, thing)
    if isinstance(thing, functools.partial):
        return [*code_of(thing.func, seen), f"{thing.args} {thing.keywords}"]
    if isinstance(thing, type):
        plain = [f"{name} = {value!r}" for name, value in vars(thing).items() if name[0] != "_" and is_plain(value)]
        methods = [each for each in vars(thing).values() if inspect.isfunction(each)]
        return plain + [line for each in methods for line in code_of(each, seen)]
    if not inspect.isroutine(thing):  # an object that can be called
        values = {name: value for name, value in vars(thing).items() if is_plain(value)}
        return [*code_of(type(thing), seen), str(values)]
    try:
        lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
        used = inspect.getclosurevars(thing)
    except (OSError, TypeError):  # typed at a prompt, or built into Python
        return [getattr(thing, "__qualname__", repr(thing))]
    for name, value in {**used.globals, **used.nonlocals}.items():
        if is_plain(value):
            lines.append(f"{name} = {value!r}")
        elif isinstance(value, keras.losses.Loss):
            lines.append(f"{name} = {type(value).__name__} {value.get_config()}")
        elif inspect.isfunction(value) and value.__module__ == thing.__module__:
            lines += code_of(value, seen)
    return lines


def is_plain(value):
    """Whether a value is written out in full by `repr`."""
    if isinstance(value, dict):
        return all(is_plain(each) for pair in value.items() for each in pair)
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return isinstance(value, str | int | float | None)
