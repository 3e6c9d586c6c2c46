"""How it is computed: on which devices, in which number format, and by which faster kernels that train as well.

Nothing here belongs to the lesson. `build_gan` calls `speed_up` in its last line; without that, training is slower and
nothing else. What is here for several devices they need, or they would sample the same latents.
"""

import functools
import json
import math
import os
import re
import subprocess
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from gan_utils import PROJECT_FOLDER, counted
from gan_utils.networks import layers_of

BFLOAT16_FROM = 128  # pixels; at 64 it gains little


@dataclass(frozen=True)
class Computing:
    """What `choose_computing` chose."""

    precision: str
    jit_compile: bool
    steps_per_execution: int
    device: str

    def __str__(self):
        steps, xla = counted(self.steps_per_execution, "step"), "with" if self.jit_compile else "without"
        return f"Computing in {self.precision}, {xla} XLA, {steps} a call, on {self.device}"


def choose_computing(settings):
    """The fastest way to compute a training step on this device that leaves its results as good.

    What the settings give is used as it is. Else: mixed_bfloat16 (Micikevicius et al. 2018, arXiv 1710.03740) on images
    of 128 pixels and more where the device multiplies it faster than float32; no XLA, which made these networks slower
    on CPUs; 1 training step per call on a CPU, where a step takes far longer than the call, up to 8 on a GPU, 1 on
    several devices, where Keras cannot do more (github.com/keras-team/keras/issues/19246).
    """
    gpus = list_gpus()
    has_bfloat16 = any(map(gpu_has_bfloat16, gpus)) if gpus else processor_has_bfloat16()
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1 and len(list_machines()) < 2
    chosen = {
        "precision": "mixed_bfloat16" if has_bfloat16 and settings.image_size >= BFLOAT16_FROM else "float32",
        "jit_compile": False,
        # A number that does not divide the epoch would train more steps than are counted.
        "steps_per_execution": math.gcd(8, settings.steps_per_epoch or 1) if len(gpus) == 1 and alone else 1,
    }
    given = {name: getattr(settings, name) for name in chosen if getattr(settings, name) is not None}
    return Computing(**(chosen | given), device=describe_device())


def list_gpus():
    return tf.config.list_physical_devices("GPU")


def gpu_has_bfloat16(gpu):
    """Whether a GPU has tensor cores for bfloat16: those of NVIDIA from 2020 (Ampere) on."""
    return tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) >= (8, 0)


def processor_has_bfloat16(cpuinfo=Path("/proc/cpuinfo")):
    """Whether the processor multiplies bfloat16 in hardware. Only Linux tells; elsewhere the answer is no."""
    return cpuinfo.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpuinfo.read_text().split())


def describe_device():
    """What TensorFlow computes on, in words."""
    names = (tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in list_gpus())
    counted = [name if number == 1 else f"{number} x {name}" for name, number in Counter(names).items()]
    words = ", ".join(counted) or f"CPU, {usable_cores()}"
    machines = len(list_machines())
    return words if machines < 2 else f"{words}, on each of {machines} machines"


def commit():
    """The project's git commit, with -dirty behind it where files were changed since; None outside a clone."""
    try:
        command = ["git", "-C", str(PROJECT_FOLDER), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def list_machines():
    """The machines that train together, "host:port" each, as the environment variable TF_CONFIG names them."""
    return read_tf_config()[0]


def read_tf_config():
    """(`list_machines`, which of them this one is, counted from 0) by TF_CONFIG."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        chiefs, workers = (config.get("cluster", {}).get(name, []) for name in ("chief", "worker"))
        machines = [*chiefs, *workers]
        if wrong := [machine for machine in machines if not re.fullmatch(r".+:\d+", machine)]:
            raise ValueError(f"{wrong[0]} is not host:port")
        task = config["task"] if machines else {"type": "worker", "index": 0}
        index = int(task["index"]) + {"chief": 0, "worker": len(chiefs)}[task["type"]]
        return machines, range(max(len(machines), 1)).index(index)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"The environment variable TF_CONFIG is broken ({error}): {text}. Unset it, or give it this form: "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from error


def usable_cores():
    """How many cores this process may use, in words; taskset and containers allow fewer than the machine has."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return counted(number, "core")


@contextmanager
def precision(name):
    """Layers that are made inside compute in this number format."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# ---- several devices ---------------------------------------------------------------------------------------


def choose_strategy():
    """The `tf.distribute.Strategy` that is in force, else one that shares each batch among all GPUs."""
    if not tf.distribute.has_strategy() and len(list_gpus()) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def check_sharing(settings, computing, devices):
    """Refuse settings that several devices cannot train with."""
    if settings.batch_size % devices:
        raise ValueError(
            f"{devices} devices cannot share batches of {counted(settings.batch_size, 'image')} evenly: choose a "
            f"batch_size that is a multiple of {devices}"
        )
    if devices > 1 and computing.steps_per_execution > 1:
        raise ValueError(f"steps_per_execution has to be 1 on {devices} devices, for the sake of Keras")


def share_batches(model, devices):
    """Let devices that share each batch train a `GAN` as one device would."""
    if devices == 1:
        return
    sample_for_all = model.sample_latents
    model.devices = devices

    def sample_latents(images, random=None):
        """This device's part of the latents; all devices sample the same ones, those of the whole batch."""
        first = images * tf.distribute.get_replica_context().replica_id_in_sync_group
        return sample_for_all(images * devices, random)[first : first + images]

    def descend(optimizer, network, tape, loss):
        """As `GAN.descend`; the optimiser adds up all gradients, and a loss is a mean over one device's images."""
        weights, share = network.trainable_variables, tf.ones_like(loss) / devices
        optimizer.apply(tape.gradient(loss, weights, output_gradients=share), weights)

    model.sample_latents, model.descend = sample_latents, descend
    for layer in [*layers_of(model.generator), *layers_of(model.discriminator)]:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # over the whole batch


# ---- faster kernels ----------------------------------------------------------------------------------------


def speed_up(model):
    """Swap faster kernels for Adam, dropout and the generator's batch normalisation into a compiled `GAN`, return it.

    Layers and optimisers stay Keras' own, so that saved files need nothing but Keras; networks and losses of one's own
    are not touched otherwise.
    """
    for optimizer in (model.generator_optimizer, model.discriminator_optimizer):
        if type(optimizer) is keras.optimizers.Adam and not optimizer.amsgrad:
            optimizer.update_step = functools.partial(fused_adam_step, optimizer)
    for layer in [*model.generator.layers, *model.discriminator.layers]:
        if type(layer) is keras.layers.Dropout and layer.noise_shape is None and layer.rate < 0.9:
            layer.call = functools.partial(byte_dropout, layer)
    for layer in model.generator.layers:  # in a discriminator, a penalty would need the gradient's gradient
        if type(layer) is keras.layers.BatchNormalization and normalises_channels(layer):
            layer.call = functools.partial(fused_batch_normalization, layer)
    return model


def fused_adam_step(optimizer, gradient, variable, learning_rate):
    """Keras' Adam (Kingma and Ba 2015, arXiv 1412.6980) by one TensorFlow kernel per weight instead of a dozen.

    The kernel passes over the memory once, which tells where weights are many: the brains' generator has 27 million.
    """
    index = optimizer._get_variable_index(variable)
    steps_done = tf.cast(optimizer.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=tf.pow(tf.cast(optimizer.beta_1, variable.dtype), steps_done),
        beta2_power=tf.pow(tf.cast(optimizer.beta_2, variable.dtype), steps_done),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=gradient,
    )


def byte_dropout(layer, inputs, training=False):
    """Dropout from one random byte for each value; Keras takes four.

    The rate is rounded to 1/256; what is kept is scaled up by exactly as much as is lost.
    """
    dropped = round(256 * layer.rate)
    if not training or dropped == 0:
        return inputs
    values = tf.size(inputs)
    seed = tf.cast(layer.seed_generator.next(), "int32")
    words = tf.random.stateless_uniform([(values + 3) // 4], seed, None, None, "int32")
    random_bytes = tf.reshape(tf.bitcast(words, "uint8"), [-1])[:values]
    kept = tf.cast(tf.reshape(random_bytes >= dropped, tf.shape(inputs)), inputs.dtype)
    return inputs * (kept * (256 / (256 - dropped)))


def normalises_channels(layer):
    """Whether a built batch normalisation is of the usual kind, with weights in float32, on one device."""
    dimensions = layer.input_spec.ndim
    usual = dimensions in (2, 4) and layer.axis in (-1, dimensions - 1) and layer.scale and layer.center
    unusual = layer.synchronized or getattr(layer, "renorm", False)  # Keras 3.8 has no renorm
    return usual and not unusual and layer.variable_dtype == "float32"


def fused_batch_normalization(layer, inputs, training=False, mask=None):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) by one kernel; Keras computes it in a dozen.

    Statistics are taken in float32, also of inputs in bfloat16.
    """
    if not training or not layer.trainable or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    images = inputs if len(inputs.shape) == 4 else inputs[:, None, None, :]
    normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=layer.gamma.value,
        offset=layer.beta.value,
        mean=[],
        variance=[],
        epsilon=layer.epsilon,
    )
    values = tf.cast(tf.size(images) / tf.shape(images)[-1], variance.dtype)
    variance *= (values - 1) / values  # the kernel's is that of a sample
    for average, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average * layer.momentum + new * (1 - layer.momentum))
    return tf.reshape(normalised, tf.shape(inputs))
