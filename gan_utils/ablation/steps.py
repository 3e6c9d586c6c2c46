"""The steps of an ablation: from the baseline to the improved recipe, one named change at a time, and beside them."""

import dataclasses
from typing import NamedTuple

from gan_utils.settings import RECIPES, Settings, choose_settings

# What changes together, in this order; what the two recipes have in common is left out.
GROUPS = {
    "networks": ("networks", "filters"),
    "first feature maps": ("generator_input_dim",),
    "kernel size": ("kernel_size",),
    "initial weights": ("initial_weights",),
    "optimisers": (
        "generator_learning_rate",
        "discriminator_learning_rate",
        "beta_1",
        "updates",
        "batch_size",
        "latent_dim",
    ),
    "batch normalisation": ("discriminator_batch_norm",),
    "R1 penalty": ("r1_gamma", "r1_interval"),
    "minibatch standard deviation": ("minibatch_std",),
    "translation": ("translation",),
    "averaged generator": ("ema_decay",),
}
LENGTH = ("epochs", "steps_per_epoch")  # without effect here, where the clock says when training ends
WITHOUT_HELP = {
    "discriminator_batch_norm": False,
    "r1_gamma": 0.0,
    "minibatch_std": False,
    "translation": 0.0,
    "ema_decay": 0.0,
}
# What makes the improved recipe fail, how many different images it trains on (None: all), and how many it sees in all
# (None: as many as there is time for).
FAILURES = {
    "lattice": (
        {
            **WITHOUT_HELP,
            "generator_input_dim": 8,
            "kernel_size": 3,
            "initial_weights": "glorot_uniform",
            "generator_learning_rate": 2e-4,
            "discriminator_learning_rate": 5e-5,
            "beta_1": 0.9,
        },
        None,
        6400,
    ),
    "collapse": (
        {**WITHOUT_HELP, "generator_learning_rate": 1e-2, "discriminator_learning_rate": 1e-4, "beta_1": 0.5},
        None,
        4000,
    ),
    "memorising": ({}, 16, None),
}


class Step(NamedTuple):
    """One training of the ablation.

    Attributes:
        name: what is new in it.
        settings: `Settings`.
        changed: the settings that differ from the step before, or from the improved recipe where it is no step.
        kind: "step" of the chain, "alternative" to its end, or "failure".
        training_images: how many different images to train on, the first ones, or None: all. Slices lie person by
            person, so that a few are of one person.
        enough_images: after how many images to stop, even if there is time left, or None: the time decides.
    """

    name: str
    settings: Settings
    changed: dict
    kind: str = "step"
    training_images: int | None = None
    enough_images: int | None = None


def steps(experiment, profile, data=None, **changes):
    """The chain from the baseline to the improved recipe, each step with the changes of all steps before it.

    Built up in notebooks/05_improve_the_gan.ipynb.

    Args:
        experiment, profile, data, **changes: as for `choose_settings`, for both recipes.

    Returns:
        list of `Step`. The first is the baseline; the last has all settings of the improved recipe.

    Example:
        >>> [step.name for step in steps("brain", "quick")][:2]
        ['baseline', 'networks']
    """
    settings, improved = (choose_settings(experiment, profile, recipe, data, **changes) for recipe in RECIPES)
    settings = dataclasses.replace(settings, **differing(settings, improved, LENGTH))
    chain = [Step("baseline", settings, {})]
    for name, group in GROUPS.items():
        if changed := differing(settings, improved, group):
            settings = dataclasses.replace(settings, **changed)
            chain.append(Step(name, settings, changed))
    return chain


def differing(settings, others, names):
    """{name: value in `others`} of the settings that differ."""
    return {name: getattr(others, name) for name in names if getattr(others, name) != getattr(settings, name)}


def steps_beside(improved):
    """What stands beside the chain: the DCGAN paper's own discriminator, and three runs that fail, each its own way."""
    # Without the penalty, which needs answers that do not hang on the other images of the batch.
    own = {"discriminator_batch_norm": True, "r1_gamma": 0.0}
    kinds = {"batch normalisation, no R1 penalty": (own, "alternative")}
    kinds |= {name: (changed, "failure", *limits) for name, (changed, *limits) in FAILURES.items()}
    for name, (changed, kind, *limits) in kinds.items():
        settings = dataclasses.replace(improved, **changed)
        if settings != improved or limits:
            yield Step(name, settings, differing(improved, settings, changed), kind, *limits)
