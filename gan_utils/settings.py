"""What to train, on what, how large and how long: one frozen record, saved with every run."""

import ast
import dataclasses
import difflib
import math
import os
import shlex
import tomllib
from dataclasses import dataclass, field, fields

from gan_utils import PROJECT_FOLDER, project_path, short_path
from gan_utils.data import DATASETS, PHANTOMS

SETTINGS_FILE = PROJECT_FOLDER / "notebooks" / "settings.toml"  # what all notebooks run with
NAMED = ("experiment", "profile", "recipe", "data")  # each with an environment variable and an option of its own
FIRST_SHOWN = (*NAMED, "seed", "image_size", "batch_size", "epochs", "steps_per_epoch")  # of a run; the rest on demand

RECIPES = ("baseline", "improved")
LOSSES = ("cross_entropy", "relativistic")
UPDATES = ("simultaneous", "alternating")
NETWORKS = ("brain", "knee", "dcgan")
INITIAL_WEIGHTS = ("glorot_uniform", "he_normal", "normal")
RESIZES = ("pad", "squash")
PRECISIONS = ("float32", "mixed_bfloat16")
TYPE_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", type(None): "None"}


def setting(reason, choices=None, least=None, above=None, below=None, **options):
    """A field with its unit and reason, which notebooks show, and its limits, which `check` enforces."""
    limits = {"choices": choices, "least": least, "above": above, "below": below}
    return field(metadata={"reason": reason, **limits}, **options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice behind a run. Make one with `choose_settings`, as every notebook does."""

    experiment: str = setting("which system: brain (OASIS) or knee (OAI AKOA)", DATASETS)
    recipe: str = setting("baseline: the published networks and update; improved: notebook 5's", RECIPES)
    profile: str = setting("smoke: only tests the code; quick: two CPU cores; full: as published, for a GPU")
    data: str | None = setting("folder of your own slices, or phantoms; None: slices in data/, else phantoms")
    output: str = setting(
        "folder that holds a folder for each run",
        default_factory=lambda: os.environ.get("GAN_OUTPUT") or "epoch_images",
    )
    seed: int = setting(
        "start of all random numbers", least=0, below=2**32, default=1
    )  # NumPy's and TensorFlow's limit
    phantom_subjects: int = setting("digital phantoms to make where there are no slices", least=3, default=80)
    held_out_patients: int | None = setting(
        "knees: patients to validate, and as many to test; None: a fifth each", least=1, default=1
    )
    image_size: int = setting("width and height of the training images, in pixels", least=32, below=1025)
    resize: str = setting("to squares: pad keeps shapes, squash (as published) does not", RESIZES, default="pad")
    latent_dim: int = setting("length of the random vector that the generator turns into an image", least=1)
    generator_input_dim: int = setting("width of the generator's first feature maps; doubled up to image_size", least=1)
    networks: str = setting("brain, knee: as published; dcgan: Radford 2015, arXiv 1511.06434", NETWORKS)
    filters: int = setting("channels of the layer next to the images; others have more", least=1)
    kernel_size: int = setting(
        "width of kernels with stride 2; even ones leave no lattice (Odena 2016)", least=1, default=3
    )
    initial_weights: str = setting("of the generator; normal: N(0, 0.02)", INITIAL_WEIGHTS, default="glorot_uniform")
    updates: str = setting("simultaneous: both networks from one pass; alternating: the discriminator first", UPDATES)
    batch_size: int = setting("images in one training step", least=1)
    epochs: int = setting("how many epochs to train", least=1)
    steps_per_epoch: int | None = setting("training steps; None: every training image once", least=1, default=None)
    generator_learning_rate: float = setting("Adam step size of the generator", above=0, below=1)
    discriminator_learning_rate: float = setting("Adam step size of the discriminator", above=0, below=1)
    beta_1: float = setting("Adam memory of past gradients, 0 to 1", least=0, below=1)
    loss: str = setting("cross_entropy: as published; relativistic: arXiv 1807.00734", LOSSES, default="cross_entropy")
    penalty_weight: float = setting(
        "gamma of the gradient penalties R1 and R2; 0: none", least=0, below=math.inf, default=0.0
    )
    penalty_decay: int = setting("images over which that weight falls to a tenth; 0: it does not", least=0, default=0)
    penalty_interval: int = setting("training steps between two gradient penalties", least=1, default=4)
    minibatch_std: bool = setting("show how much a batch varies (arXiv 1710.10196); dcgan networks only", default=False)
    translation: float = setting(
        "random shifts of what the discriminator sees, share of width", least=0, below=1, default=0.0
    )
    ema_decay: float = setting("slowness of the averaged generator; 0: none", least=0, below=1, default=0.0)
    ssim_batches: int = setting("training batches behind the maximum SSIM", least=1, default=50)
    evaluate_every: int = setting("epochs between two light evaluations; the last one counts, too", least=1, default=5)
    precision: str | None = setting("number format; None: chosen from the device", PRECISIONS, default=None)
    jit_compile: bool | None = setting("compile training steps with XLA; None: chosen from the device", default=None)
    steps_per_execution: int | None = setting("training steps a call; None: from the device", least=1, default=None)
    debug: bool = setting("keep sample images and both networks of every epoch", default=False)

    @property
    def run_name(self):
        """Name of the run's folder, such as brain-baseline-quick."""
        return f"{self.experiment}-{self.recipe}-{self.profile}"

    @property
    def run_folder(self):
        """Where this run leaves everything: pictures, history, results and the trained generator."""
        return project_path(self.output) / self.run_name

    def _repr_markdown_(self):
        """What a run is, and on demand all the rest."""
        rows = {f.name: f"| {f.name} | {getattr(self, f.name)} | {f.metadata['reason']} |" for f in fields(self)}
        head = ["| setting | value | meaning |", "| --- | --- | --- |"]
        rest = [row for name, row in rows.items() if name not in FIRST_SHOWN]
        folded = ["", f"<details><summary>{len(rest)} more settings</summary>", "", *head, *rest, "", "</details>"]
        return "\n".join([*head, *(rows[name] for name in FIRST_SHOWN), *folded])


# What the improved recipe changes in any system, beside `choose_penalty_weight`; what a profile changes in it is in
# DATASETS. Notebook 5 says why.
# fmt: off
IMPROVED = {
    "networks": "dcgan", "filters": 16, "generator_input_dim": 4, "kernel_size": 4, "initial_weights": "normal",
    "generator_learning_rate": 1e-4, "discriminator_learning_rate": 6e-4, "beta_1": 0.5, "batch_size": 8,
    "updates": "simultaneous", "loss": "relativistic", "penalty_decay": 40_000, "minibatch_std": True,
    "translation": 0.0625, "ema_decay": 0.999,
}
# fmt: on


def read_choices(**changes):
    """What notebooks/settings.toml says, which all notebooks share; the environment wins, and `changes` over both.

    Returns:
        {name: value} for `choose_settings`.

    Raises:
        ValueError: as `read_settings_file` and `read_changes`.

    Example:
        >>> choose_settings(**read_choices(epochs=100)).epochs
        100
    """
    named = {name: value for name in NAMED if (value := os.environ.get(f"GAN_{name.upper()}"))}
    return read_settings_file() | named | read_changes(os.environ.get("GAN_SETTINGS")) | changes


def read_settings_file():
    """{name: value} of notebooks/settings.toml, or `ValueError`: often a text lacks its quotation marks."""
    try:
        chosen = tomllib.loads(SETTINGS_FILE.read_text(encoding="utf-8-sig")) if SETTINGS_FILE.exists() else {}
        check_names(chosen)
        for name, value in chosen.items():
            check_value(Settings.__dataclass_fields__[name], value)
    except ValueError as error:
        hint = ". A text needs quotation marks." if "Invalid value" in str(error) else ""
        raise ValueError(f"{short_path(SETTINGS_FILE)}: {error}{hint}") from None
    return chosen


def choose_settings(experiment="brain", profile="quick", recipe="baseline", data=None, **changes):
    """Settings of one run: a published system, in the size of a profile, with your changes on top.

    Args:
        experiment: a key of `DATASETS`: "brain" or "knee".
        profile: "smoke", "quick" or "full".
        recipe: "baseline" or "improved".
        data: folder with your own slices (a relative one starts at the project's top folder), "phantoms", or None:
            slices in data/, else digital phantoms.
        **changes: any other field of `Settings`, such as `epochs=100`.

    Raises:
        ValueError: a choice that does not exist, or a value of the wrong type or out of its range; usually a typing
            error.

    Example:
        >>> choose_settings("knee", "smoke", epochs=3).epochs
        3
    """
    check_choice("experiment", experiment, DATASETS)
    dataset = DATASETS[experiment]
    check_choice("profile", profile, dataset.profiles)
    check_choice("recipe", recipe, RECIPES)
    check_names(changes)
    data = PHANTOMS if data == "simulated" else str(data) if data else None  # what phantoms were called once
    improved = {**IMPROVED, **dataset.improved.get(profile, {})} if recipe == "improved" else {}
    chosen = {"experiment": experiment, "profile": profile, "recipe": recipe, "data": data}
    settings = Settings(**{**chosen, **dataset.published, **dataset.profiles[profile], **improved, **changes})
    check(settings)
    if recipe == "improved" and "penalty_weight" not in changes:
        weight = choose_penalty_weight(settings.image_size, settings.batch_size)
        settings = dataclasses.replace(settings, penalty_weight=weight)
    return settings


def check_names(chosen):
    """Refuse names that no setting has."""
    names = [f.name for f in fields(Settings)]
    if unknown := sorted(set(chosen) - set(names)):
        meant = "".join(f" (did you mean {close}?)" for close in difflib.get_close_matches(unknown[0], names, 1))
        raise ValueError(f"no such setting: {', '.join(unknown)}{meant}; the settings are: {', '.join(names)}")


def choose_penalty_weight(image_size, batch_size):
    """The improved recipe's `penalty_weight`, with which training starts: 4 for 64x64 pixels in batches of 8.

    It grows with the image, over whose pixels differences add up, and as batches get smaller and their gradients
    noisier. Notebook 5 says how to choose it for other data.
    """
    return image_size / (2 * batch_size)


def check_choice(name, value, known):
    """Refuse a value that is not among the known ones."""
    if value not in known:
        raise ValueError(f"{name} '{value}' is not known; choose one of: {', '.join(known)}")


def check(settings):
    """Refuse values that would fail much later, deep inside a library."""
    for f in fields(settings):
        check_value(f, getattr(settings, f.name))
    if not settings.output.strip():
        raise ValueError("output is empty: name the folder that runs are to be in, such as output=epoch_images")
    if settings.minibatch_std and settings.networks != "dcgan":
        raise ValueError("minibatch_std is there in the dcgan networks only: choose networks=dcgan, too")
    if settings.image_size % 8:
        raise ValueError(f"image_size {settings.image_size} cannot be halved three times: choose a multiple of 8")
    count_doublings(settings.generator_input_dim, settings.image_size)
    calls, steps = settings.steps_per_execution or 1, settings.steps_per_epoch
    if calls > 1 and (steps is None or steps % calls):
        raise ValueError(f"steps_per_execution {calls} has to divide steps_per_epoch {steps}, or more would be trained")


def check_value(field, value):
    """Refuse a value of the wrong type, or out of its field's range."""
    types = getattr(field.type, "__args__", (field.type,))
    if type(value) not in types and not (float in types and type(value) is int):
        raise ValueError(f"{field.name} takes {' or '.join(TYPE_WORDS[kind] for kind in types)}, not {value!r}")
    if value is None:
        return
    choices, least, above, below = (field.metadata[limit] for limit in ("choices", "least", "above", "below"))
    if choices:
        check_choice(field.name, value, choices)
    if field.name in ("data", "output"):
        project_path(value)  # refuses users who do not exist
    if least is not None and not value >= least:
        raise ValueError(f"{field.name} {value} is too small: choose {least} or more")
    if above is not None and not value > above:
        raise ValueError(f"{field.name} {value} is too small: choose more than {above}")
    if below is not None and not value < below:
        raise ValueError(f"{field.name} {value} is too large: choose less than {below}")


def count_doublings(generator_input_dim, image_size):
    """How many times generator_input_dim has to be doubled to make image_size; the error lists what reaches it."""
    halves = [image_size // 2**halvings for halvings in range(1, 11) if image_size % 2**halvings == 0]
    if generator_input_dim not in halves:
        raise ValueError(
            f"generator_input_dim {generator_input_dim} does not reach image_size {image_size} by doubling; these do: "
            f"{', '.join(map(str, sorted(halves)))}"
        )
    return 1 + halves.index(generator_input_dim)


def read_changes(text):
    """Changes written as on the command line, `name=value` with spaces between, for `choose_settings(..., **changes)`.

    Example:
        >>> read_changes("epochs=100 generator_learning_rate=1e-4")
        {'epochs': 100, 'generator_learning_rate': 0.0001}
    """
    words = shlex.shlex(text or "", posix=True)
    words.whitespace_split, words.escape, words.commenters = True, "", ""  # a backslash is part of a Windows path
    texts = {f.name for f in fields(Settings) if f.type is str}
    changes = {}
    try:
        for word in words:
            name, _, value = word.partition("=")
            if not (name and value):
                raise ValueError(f"'{word}' is not of the form name=value, such as epochs=100 (no spaces around =)")
            if name in NAMED:
                raise ValueError(f"choose the {name} by {name.upper()}=... or --{name}")
            changes[name] = value if name in texts else python_value(value)
    except ValueError as error:  # shlex finds quotes that are not closed
        raise ValueError(f"SETTINGS {text}: {error}") from None
    return changes


def python_value(text):
    """What a text stands for in Python (3, 1e-4, True, None), else the text itself, which `check` refuses."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
