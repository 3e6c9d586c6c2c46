"""From the baseline to the improved recipe: variants as lists of changed settings, and how they compare.

`make ablation` (scripts/ablation.py) trains them; notebooks/05_improve_the_gan.ipynb reads the results.
"""

import dataclasses
import textwrap
from typing import NamedTuple

from gan_utils import PROJECT_FOLDER, plots, project_path, read_json, short_path
from gan_utils.metrics import METRICS
from gan_utils.settings import RECIPES, Settings, choose_settings

RESULTS = "results.json"
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
LATTICE = {"generator_input_dim": 8, "kernel_size": 3, "initial_weights": "glorot_uniform", "beta_1": 0.9}
# What makes the improved recipe fail: (changed settings, limits of its `Variant`).
FAILURES = {
    "lattice": (
        {**WITHOUT_HELP, **LATTICE, "generator_learning_rate": 2e-4, "discriminator_learning_rate": 5e-5},
        {"enough_images": 6400},
    ),
    "collapse": (
        {**WITHOUT_HELP, "generator_learning_rate": 1e-2, "discriminator_learning_rate": 1e-4, "beta_1": 0.5},
        {"enough_images": 4000},
    ),
    "memorising": ({}, {"training_images": 16}),
}


class Variant(NamedTuple):
    """One training of the ablation."""

    name: str  # what is new in it
    settings: Settings
    changed: dict  # settings that differ from the variant before, or from the improved recipe beside the chain
    kind: str = "step"  # "step" of the chain, "alternative" to its end, or "failure"
    training_images: int | None = None  # how many to train on, the first ones, so that a few are of one subject
    enough_images: int | None = None  # after how many to stop, even if there is time left


def chain(experiment, profile, data=None, **changes):
    """The `Variant`s from the baseline to the improved recipe, each with the changes of all before it.

    Built up in notebooks/05_improve_the_gan.ipynb. The arguments are those of `choose_settings`, for both recipes.

    Example:
        >>> [variant.name for variant in chain("brain", "quick")][:2]
        ['baseline', 'networks']
    """
    settings, improved = (choose_settings(experiment, profile, recipe, data, **changes) for recipe in RECIPES)
    settings = dataclasses.replace(settings, **differing(settings, improved, LENGTH))
    variants = [Variant("baseline", settings, {})]
    for name, group in GROUPS.items():
        if changed := differing(settings, improved, group):
            settings = dataclasses.replace(settings, **changed)
            variants.append(Variant(name, settings, changed))
    return variants


def beside_the_chain(improved):
    """The DCGAN paper's own discriminator, and three variants that fail, each its own way."""
    own = {"discriminator_batch_norm": True, "r1_gamma": 0.0}  # the penalty needs answers to one image at a time
    beside = [("batch normalisation, no R1 penalty", "alternative", own, {})]
    beside += [(name, "failure", changed, limits) for name, (changed, limits) in FAILURES.items()]
    for name, kind, changed, limits in beside:
        settings = dataclasses.replace(improved, **changed)
        if settings != improved or limits:
            yield Variant(name, settings, differing(improved, settings, changed), kind, **limits)


def differing(settings, others, names):
    """{name: value in `others`} of the settings that differ."""
    return {name: getattr(others, name) for name in names if getattr(others, name) != getattr(settings, name)}


def ablation_folder(settings):
    """Where your own ablation is, such as ablation-brain-quick in the output folder."""
    return project_path(settings.output) / f"ablation-{settings.experiment}-{settings.profile}"


def find_ablation(settings):
    """The folder of your own ablation, or else of the one that comes with the project."""
    own = ablation_folder(settings)
    showcase = PROJECT_FOLDER / "epoch_images" / "showcase" / f"ablation-{settings.experiment}-quick"
    return own if (own / RESULTS).exists() else showcase


def read_ablation(folder):
    """The rows of an ablation, a dict for each variant, in the order of training."""
    if not (folder / RESULTS).exists():
        command = f"make ablation EXPERIMENT={folder.name.split('-')[1]}"
        raise FileNotFoundError(
            f"No ablation in {short_path(folder)}. Run `{command}` in a terminal: about half an hour on two cores."
        )
    unknown = float("nan")  # null in the file, where its reason is beside it
    rows = read_json(folder / RESULTS)
    return [{name: unknown if f"{name}_reason" in row else row[name] for name in row} for row in rows]


def show_ablation(rows):
    """What each variant changed, how fast it trains and how it scores, as a table; the last line is real subjects."""
    names = [name for name in METRICS if all(name in row for row in rows)]
    header = ("variant", "changed", "images per second", "both losses", *names, "warnings")
    cells = [
        (
            row_label(row),
            changes_of(row),
            f"{row['images_per_second']:.0f}",
            f"{row['generator_loss']:.2f}, {row['discriminator_loss']:.2f}",
            *(f"{row[name]:.2f}" for name in names),
            " ".join(row["alarms"]) or "none",
        )
        for row in rows
    ]
    real = (f"{rows[0][f'{name}_real']:.2f}" for name in names)
    labels = [METRICS[name].label if name in METRICS else name for name in header]
    return plots.show_table(labels, [*cells, ("held-out real subjects", *["none"] * 3, *real, "none")])


def row_label(row):
    """The name of a row as the variants add up."""
    sign = {"step": "+ ", "alternative": "or: ", "failure": ""}[row["kind"]]
    return row["name"] if row["name"] == "baseline" else sign + row["name"]


def changes_of(row):
    """What a row changed, in words."""
    limits = {"training images": row["training_images"], "stopped after images": row["enough_images"]}
    return list_settings(row["changed"] | {name: number for name, number in limits.items() if number})


def list_settings(settings):
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "nothing"


def show_grids(folder, rows, columns=2):
    """A figure of the first columns of some rows' grids side by side; every grid is from the same latents."""
    titles = [textwrap.fill(row_label(row), 12 * columns) for row in rows]
    return plots.show_grids([folder / row["picture"] for row in rows], titles, columns, height=3.6)
