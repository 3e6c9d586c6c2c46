"""How to compute on this machine: number format, XLA and steps per call, chosen from the device in this one place."""

import os
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
    - steps_per_execution: 1 on a CPU, where a step takes far longer than the call; 8 on a GPU.

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
        "steps_per_execution": 8 if cards else 1,
    }
    given = {name: getattr(settings, name) for name in chosen if getattr(settings, name) is not None}
    return Computing(**(chosen | given), device=describe_device())


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

    cards = graphics_cards()
    if cards:
        return ", ".join(tf.config.experimental.get_device_details(card).get("device_name", "GPU") for card in cards)
    return f"CPU, {usable_cores()}"


def usable_cores():
    """How many cores this process may use, in words."""
    number = count_usable_cores()
    return "1 core" if number == 1 else f"{number} cores"


def count_usable_cores():
    """How many cores this process may use; taskset and containers allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
