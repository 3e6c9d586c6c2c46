"""What each part of the improved recipe is good for: trainings that lack one part, and three that are made to fail.

`make ablation` (scripts/ablation.py) trains them; notebooks/05_improve_the_gan.ipynb reads the results.
"""

import dataclasses
import textwrap
from typing import NamedTuple

from gan_utils import PROJECT_FOLDER, plots, project_path, read_json, short_path
from gan_utils.metrics import METRICS
from gan_utils.settings import RECIPES, Settings, check, check_names, choose_settings

RESULTS = "results.json"
# {part of the improved recipe: how to do without}; add a row, and `make ablation` trains one more variant.
PARTS = {
    "relativistic losses": {"loss": "cross_entropy"},
    "gradient penalties": {"penalty_weight": 0.0},
    "decay of the penalties": {"penalty_decay": 0},
    "minibatch standard deviation": {"minibatch_std": False},
    "translation": {"translation": 0.0},
    "averaged generator": {"ema_decay": 0.0},
}
NO_HELP = {name: value for changes in PARTS.values() for name, value in changes.items()}
LATTICE = {"networks": "brain", "generator_input_dim": 8, "kernel_size": 3, "initial_weights": "glorot_uniform"}
# What makes the improved recipe fail: (changed settings, limits of its `Variant`).
FAILURES = {
    "lattice": (
        {**NO_HELP, **LATTICE, "beta_1": 0.9, "generator_learning_rate": 2e-4, "discriminator_learning_rate": 5e-5},
        {"enough_images": 4800},
    ),
    "collapse": (
        {**NO_HELP, "generator_learning_rate": 1e-2, "discriminator_learning_rate": 1e-4, "beta_1": 0.5},
        {"enough_images": 4000},
    ),
    "memorising": ({}, {"training_images": 16}),
}


class Variant(NamedTuple):
    """One training of the ablation."""

    name: str
    settings: Settings
    changed: dict  # what differs from the improved recipe
    kind: str  # "recipe", "without" one part, or "failure"
    training_images: int | None = None  # how many to train on, the first ones, so that a few are of one subject
    enough_images: int | None = None  # after how many to stop, even if there is time left


def list_variants(experiment, profile, data=None, **changes):
    """The `Variant`s: both recipes, the improved one without each of its parts, and three failures.

    The arguments are those of `choose_settings`, for both recipes.

    Example:
        >>> [variant.name for variant in list_variants("brain", "quick")][:3]
        ['baseline', 'improved', 'without relativistic losses']
    """
    recipes = {recipe: choose_settings(experiment, profile, recipe, data, **changes) for recipe in RECIPES}
    variants = [Variant(recipe, settings, {}, "recipe") for recipe, settings in recipes.items()]
    improved = recipes["improved"]
    for part, without in PARTS.items():
        settings = changed(improved, without)
        if settings != improved:  # your own changes may have left it out already
            variants.append(Variant(f"without {part}", settings, without, "without"))
    for name, (failing, limits) in FAILURES.items():
        settings = changed(improved, failing)
        variants.append(Variant(name, settings, failing, "failure", **limits))
    return variants


def changed(settings, changes):
    """The settings with some of them changed, or `ValueError` where there are none such."""
    check_names(changes)
    settings = dataclasses.replace(settings, **changes)
    check(settings)
    return settings


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
            f"No ablation in {short_path(folder)}. Run `{command}` in a terminal: about 25 minutes on two cores."
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
            row["name"],
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


def changes_of(row):
    """What a row changed, in words."""
    limits = {"training images": row["training_images"], "stopped after images": row["enough_images"]}
    changed = row["changed"] | {name: number for name, number in limits.items() if number}
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "nothing"


def show_grids(folder, rows, columns=2):
    """A figure of the first columns of some rows' grids side by side; every grid is from the same latents."""
    titles = [textwrap.fill(row["name"], 12 * columns) for row in rows]
    return plots.show_grids([folder / row["picture"] for row in rows], titles, columns, height=3.6)
