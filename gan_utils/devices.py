"""How to compute on this machine: number format, XLA and steps per call, chosen from the device in this one place."""

import functools
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

BFLOAT16_FROM = 128  # pixels; at 64 it gains little


@dataclass(frozen=True)
class Computing:
    """What `choose_computing` chose, and why."""

    precision: str
    jit_compile: bool
    steps_per_execution: int
    device: str

    def __str__(self):
        steps = "1 step" if self.steps_per_execution == 1 else f"{self.steps_per_execution} steps"
        xla = "with" if self.jit_compile else "without"
        return f"Computing in {self.precision}, {xla} XLA, {steps} a call, on {self.device}"


def choose_computing(settings):
    """The fastest way to compute a training step on this device that leaves its results as good.

    - precision: on images of 128 pixels and more, mixed_bfloat16 where the device multiplies bfloat16 faster than
      float32; weights, optimisers and the last layers stay in float32 (Micikevicius et al. 2018, arXiv 1710.03740).
    - jit_compile: off. XLA made these networks slower on CPUs; on a GPU it may pay, which is not measured here.
    - steps_per_execution: 1 on a CPU, where a step takes far longer than the call; 8 on a GPU; 1 on several devices,
      where Keras cannot do more (github.com/keras-team/keras/issues/19246).

    Args:
        settings: `Settings`; a precision, jit_compile or steps_per_execution that is given there is used as it is.

    Returns:
        `Computing`; print it.
    """
    cards = graphics_cards()
    has_bfloat16 = any(cards_have_bfloat16(cards)) if cards else processor_has_bfloat16()
    chosen = {
        "precision": "mixed_bfloat16" if has_bfloat16 and settings.image_size >= BFLOAT16_FROM else "float32",
        "jit_compile": False,
        "steps_per_execution": 8 if len(cards) == 1 and len(machines()) < 2 else 1,
    }
    given = {name: getattr(settings, name) for name in chosen if getattr(settings, name) is not None}
    return Computing(**(chosen | given), device=describe_device())


@functools.cache
def choose_strategy():
    """How TensorFlow shares a batch among devices: all GPUs of all machines, or just the one device.

    - TF_CONFIG names several machines: `tf.distribute.MultiWorkerMirroredStrategy`. TensorFlow must not have computed
      anything yet; it waits here until all machines have come. `gan_utils.train` sees to both.
    - TensorFlow sees several GPUs: `tf.distribute.MirroredStrategy`.
    - Else TensorFlow's default, which costs nothing.

    Returns:
        A `tf.distribute.Strategy`, the same in every call.
    """
    import tensorflow as tf

    if len(machines()) > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.MirroredStrategy() if len(graphics_cards()) > 1 else tf.distribute.get_strategy()


def machines():
    """The machines that train together, "host:port" each, as the environment variable TF_CONFIG names them."""
    cluster = tf_config().get("cluster", {})
    return [*cluster.get("chief", []), *cluster.get("worker", [])]


def machine_index():
    """The number of this machine among `machines()`, 0 where it is alone. Machine 0 writes the run's folder."""
    config = tf_config()
    task = config.get("task", {"type": "chief", "index": 0})
    return int(task["index"]) + (len(config["cluster"].get("chief", [])) if task["type"] == "worker" else 0)


def tf_config():
    return json.loads(os.environ.get("TF_CONFIG") or "{}")


def graphics_cards():
    """The GPUs that TensorFlow sees."""
    import tensorflow as tf  # here, so that `python -m gan_utils`, which leaves it to the notebooks, starts at once

    return tf.config.list_physical_devices("GPU")


def cards_have_bfloat16(cards):
    """Whether each GPU has tensor cores for bfloat16: those of NVIDIA from 2020 (Ampere) on."""
    import tensorflow as tf

    for card in cards:
        yield tf.config.experimental.get_device_details(card).get("compute_capability", (0, 0)) >= (8, 0)


def processor_has_bfloat16(cpuinfo=Path("/proc/cpuinfo")):
    """Whether the processor multiplies bfloat16 in hardware. Only Linux tells; elsewhere the answer is no."""
    return cpuinfo.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpuinfo.read_text().split())


def describe_device():
    """What TensorFlow computes on, in words."""
    import tensorflow as tf

    names = (tf.config.experimental.get_device_details(card).get("device_name", "GPU") for card in graphics_cards())
    counted = [name if number == 1 else f"{number} x {name}" for name, number in Counter(names).items()]
    words = ", ".join(counted) or f"CPU, {usable_cores()}"
    return words if len(machines()) < 2 else f"{words}, on each of {len(machines())} machines"


def usable_cores():
    """How many cores this process may use, in words."""
    number = count_usable_cores()
    return "1 core" if number == 1 else f"{number} cores"


def count_usable_cores():
    """How many cores this process may use; taskset and containers allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
