"""What to train, on what, how large and how long: one frozen record, saved with every run."""

import ast
import dataclasses
import math
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
SIMULATED = "simulated"  # as the data folder: simulated people even where data/ holds real slices
RECIPES = ("baseline", "improved")
UPDATES = ("simultaneous", "alternating")
NETWORKS = ("published", "dcgan")
INITIAL_WEIGHTS = ("glorot_uniform", "he_normal", "normal")
RESIZES = ("pad", "squash")
PRECISIONS = ("float32", "mixed_bfloat16")


def explained(reason, **options):
    """A dataclass field that carries its unit and reason, so that notebooks can show them."""
    return field(metadata={"reason": reason}, **options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice behind a run. Make one with `choose_settings`, as every notebook does."""

    experiment: str = explained("which system: brain (OASIS) or knee (OAI AKOA)")
    recipe: str = explained(
        "baseline: the published networks and update, in the size that the profile says; improved: notebook 5's"
    )
    profile: str = explained("smoke: only tests the code; quick: two CPU cores; full: as published, for a GPU")
    data: str | None = explained("folder of your own slices, or simulated; None: what lies in data/, else simulated")
    output: str = explained(
        "folder that holds a folder for each run",
        default_factory=lambda: os.environ.get("GAN_OUTPUT") or "epoch_images",
    )
    seed: int = explained("start of every random draw", default=1)
    simulated_people: int = explained("people to simulate (brains) or draw (knees) where there is no data", default=60)
    held_out_patients: int = explained(
        "knees: patients to validate, and as many again to test; brains come split", default=1
    )
    image_size: int = explained("width and height of the training images, in pixels")
    images_on_disk: bool | None = explained(
        "keep the loaded images in a file and read a batch at a time; None: when they would take more than half of the "
        "free memory",
        default=None,
    )
    resize: str = explained(
        "how slices that are not square become so: pad keeps their shape, squash (the published way) does not",
        default="pad",
    )
    latent_dim: int = explained("length of the random vector that the generator turns into an image")
    generator_input_dim: int = explained(
        "width and height of the generator's first feature maps, in pixels; its blocks double it up to image_size"
    )
    networks: str = explained(
        "published: those of the experiment's report; dcgan: the DCGAN paper's plan (Radford 2015, arXiv 1511.06434)",
        default="published",
    )
    filters: int = explained("width of the networks: channels of the layer next to the images; others have more")
    kernel_size: int = explained(
        "width of the kernels of all layers with stride 2, in pixels; even ones leave no lattice (Odena 2016, "
        "doi 10.23915/distill.00003)",
        default=3,
    )
    initial_weights: str = explained(
        "of the generator: glorot_uniform (Keras' default), he_normal (He 2015, arXiv 1502.01852), or normal: N(0, "
        "0.02) (Radford 2015)",
        default="glorot_uniform",
    )
    discriminator_batch_norm: bool = explained(
        "batch normalisation in the discriminator (Radford 2015); dcgan networks only", default=False
    )
    updates: str = explained(
        "simultaneous: both networks learn from one pass; alternating: the discriminator first, then the generator "
        "through the updated discriminator"
    )
    batch_size: int = explained("images in one training step")
    epochs: int = explained("how many epochs to train")
    steps_per_epoch: int | None = explained(
        "training steps in an epoch; None: as many as show every training image once", default=None
    )
    generator_learning_rate: float = explained("Adam step size of the generator")
    discriminator_learning_rate: float = explained("Adam step size of the discriminator")
    beta_1: float = explained("Adam memory of past gradients, 0 to 1")
    r1_gamma: float = explained(
        "weight of the discriminator's gradient penalty on real images (Mescheder 2018, arXiv 1801.04406); 0: none",
        default=0.0,
    )
    r1_interval: int = explained("steps between two gradient penalties (Karras 2020, arXiv 1912.04958)", default=16)
    minibatch_std: bool = explained(
        "tell the discriminator how much a batch varies (Karras 2018, arXiv 1710.10196); dcgan networks only",
        default=False,
    )
    translation: float = explained(
        "random shifts of all that the discriminator sees, up to this share of the image (Zhao 2020, arXiv 2006.10738)",
        default=0.0,
    )
    ema_decay: float = explained(
        "how slowly the averaged copy of the generator follows it (Yazici 2019, arXiv 1806.04498); 0: no copy",
        default=0.0,
    )
    ssim_batches: int = explained("training batches that images are compared with for the maximum SSIM", default=50)
    judge_interval: int = explained(
        "epochs between two light judgements (notebook 3); the last epoch is judged, too", default=5
    )
    precision: str | None = explained(
        "how numbers are computed with: float32 or mixed_bfloat16; None: chosen from the device (devices.py)",
        default=None,
    )
    jit_compile: bool | None = explained("compile training steps with XLA; None: chosen from the device", default=None)
    steps_per_execution: int | None = explained(
        "training steps that TensorFlow does in one call; None: chosen from the device", default=None
    )
    debug: bool = explained("keep sample images and both networks of every epoch", default=False)

    @property
    def run_name(self):
        """Name of the run's folder, such as brain-baseline-quick."""
        return f"{self.experiment}-{self.recipe}-{self.profile}"

    @property
    def run_folder(self):
        """Where this run leaves everything: pictures, history, results and the trained generator."""
        return project_path(self.output) / self.run_name

    def _repr_markdown_(self):
        rows = [f"| {f.name} | {getattr(self, f.name)} | {f.metadata['reason']} |" for f in dataclasses.fields(self)]
        return "\n".join(["| setting | value | meaning |", "| --- | --- | --- |", *rows])


# The two published systems. What their reports leave open is settled here: knees are padded to a square rather than
# squashed, and their generator has the report's five blocks with the code's linear output.
PUBLISHED = {
    "brain": {
        "image_size": 256,
        "latent_dim": 100,
        "generator_input_dim": 32,
        "filters": 64,
        "updates": "simultaneous",
        "batch_size": 16,
        "epochs": 50,
        "generator_learning_rate": 1e-4,
        "discriminator_learning_rate": 1e-4,
        "beta_1": 0.9,
    },
    "knee": {
        "image_size": 128,
        "latent_dim": 256,
        "generator_input_dim": 4,
        "filters": 16,
        "initial_weights": "he_normal",
        "updates": "alternating",
        "batch_size": 128,
        "epochs": 35,
        "generator_learning_rate": 2e-4,
        "discriminator_learning_rate": 2e-4,
        "beta_1": 0.5,
    },
}

# What a profile changes in them.
# A quick brain run sees two fifths as many images as a published one, so it takes larger steps. In trials at 64 pixels
# with steps of 5e-4, images after 52,000 showed the lattice of 3x3 kernels with beta_1 0.9, and none with 0.5.
# A quick knee run takes smaller batches, hence more steps, and starts at 8x8 as the published code does: in trials at
# 64 pixels, images after 45,000 shared one layout from 4x4 and differed from 8x8. Its discriminator learns at a quarter
# of the rate: at the full one it had won (loss 0.04 after 160,000), and the images stayed pale.
PROFILES = {
    "brain": {
        "full": {},
        "quick": {
            "image_size": 64,
            "generator_input_dim": 8,
            "filters": 32,
            "steps_per_epoch": 240,
            "generator_learning_rate": 5e-4,
            "discriminator_learning_rate": 5e-4,
            "beta_1": 0.5,
        },
        "smoke": {
            "image_size": 32,
            "generator_input_dim": 4,
            "filters": 4,
            "epochs": 2,
            "steps_per_epoch": 4,
            "simulated_people": 10,
        },
    },
    "knee": {
        "full": {},
        "quick": {
            "image_size": 64,
            "generator_input_dim": 8,
            "held_out_patients": 6,
            "batch_size": 16,
            "epochs": 50,
            "steps_per_epoch": 240,
            "discriminator_learning_rate": 5e-5,
        },
        "smoke": {
            "image_size": 32,
            "filters": 4,
            "batch_size": 16,
            "epochs": 2,
            "steps_per_epoch": 4,
            "simulated_people": 6,
        },
    },
}
EXPERIMENTS = tuple(PROFILES)

# What the improved recipe changes in either system; notebooks/05_improve_the_gan.ipynb says why. A step of its narrow
# networks takes less time than one of the baseline's, so an epoch of quick has more steps: both take equally long. The
# gradient penalty grows with the number of pixels: in trials of brains at 256 pixels, 40,000 images, the sliced
# Wasserstein distance to the validation people was 113 with the 0.1 that serves at 64, and 43 with 1.0 (real 22); of
# knees at 128 pixels it was 70 with 0.1 and 54 with 0.4 (real 29).
IMPROVED = {
    "networks": "dcgan",
    "filters": 16,
    "generator_input_dim": 4,
    "kernel_size": 4,
    "initial_weights": "normal",
    "generator_learning_rate": 1e-4,
    "discriminator_learning_rate": 4e-4,
    "beta_1": 0.5,
    "batch_size": 16,
    "updates": "simultaneous",
    "r1_gamma": 0.1,
    "minibatch_std": True,
    "translation": 0.0625,
    "ema_decay": 0.995,
}
IMPROVED_PROFILES = {
    "brain": {"full": {"r1_gamma": 1.0}, "quick": {"steps_per_epoch": 280}, "smoke": {"filters": 4}},
    "knee": {"full": {"r1_gamma": 0.4}, "quick": {"steps_per_epoch": 352}, "smoke": {"filters": 4}},
}


def choose_settings(experiment="brain", profile="quick", recipe="baseline", data=None, **changes):
    """Settings of one run: a published system, in the size of a profile, with your changes on top.

    Args:
        experiment: "brain" or "knee".
        profile: "smoke", "quick" or "full".
        recipe: "baseline" or "improved".
        data: folder with your own slices (a relative one is looked up from the project's top folder), "simulated", or
            None: what lies in data/, else simulated people.
        **changes: any other field of `Settings`, such as `epochs=100`.

    Raises:
        ValueError: a choice that does not exist, or a value of the wrong type or out of its range; usually a typing
            error.

    Example:
        >>> choose_settings("knee", "smoke", epochs=3).epochs
        3
    """
    check_choice("experiment", experiment, EXPERIMENTS)
    check_choice("recipe", recipe, RECIPES)
    check_choice("profile", profile, tuple(PROFILES[experiment]))
    names = [f.name for f in dataclasses.fields(Settings)]
    if unknown := sorted(set(changes) - set(names)):
        raise ValueError(f"no such setting: {', '.join(unknown)}; the settings are: {', '.join(names)}")
    chosen = {"experiment": experiment, "profile": profile, "recipe": recipe, "data": str(data) if data else None}
    improved = {**IMPROVED, **IMPROVED_PROFILES[experiment][profile]} if recipe == "improved" else {}
    settings = Settings(**{**chosen, **PUBLISHED[experiment], **PROFILES[experiment][profile], **improved, **changes})
    check_types(settings)
    check_ranges(settings)
    return settings


def read_changes(text):
    """Changes written as on the command line, for `choose_settings(..., **changes)`.

    Args:
        text: `name=value` with spaces between, or None; quotes hold a value with spaces together.

    Raises:
        ValueError: a word that is not of this form, usually because spaces stand around "=", or a name that is chosen
            elsewhere.

    Example:
        >>> read_changes("epochs=100 generator_learning_rate=1e-4")
        {'epochs': 100, 'generator_learning_rate': 0.0001}
    """
    words = shlex.shlex(text or "", posix=True)
    words.whitespace_split, words.escape, words.commenters = True, "", ""  # a backslash is part of a Windows path
    texts = {f.name for f in dataclasses.fields(Settings) if f.type is str}
    changes = {}
    try:
        for word in words:
            name, _, value = word.partition("=")
            if not (name and value):
                raise ValueError(f"'{word}' is not of the form name=value, such as epochs=100 (no spaces around =)")
            if name in ("experiment", "profile", "recipe", "data"):
                raise ValueError(f"choose the {name} by {name.upper()}=... or --{name}")
            changes[name] = value if name in texts else number_or_text(value)
    except ValueError as error:  # shlex finds quotes that are not closed
        raise ValueError(f"SETTINGS {text}: {error}") from None
    return changes


def number_or_text(value):
    """What a value stands for in Python: 3, 1e-4, True, None; else the text itself, which `check_types` refuses."""
    try:
        return ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return value


def check_choice(name, value, known):
    if value not in known:
        raise ValueError(f"{name} '{value}' is not known; choose one of: {', '.join(known)}")


def check_types(settings):
    """Refuse a text where a number belongs, and the like."""
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        fits = isinstance(value, f.type | int if f.type is float else f.type)
        if not fits or (isinstance(value, bool) and f.type not in (bool, bool | None)):
            raise ValueError(f"{f.name} {value!r} does not fit: {f.metadata['reason']}")


def check_ranges(settings):
    """Refuse values that would fail much later, deep inside a library."""
    check_choice("updates", settings.updates, UPDATES)
    check_choice("resize", settings.resize, RESIZES)
    check_choice("networks", settings.networks, NETWORKS)
    check_choice("initial_weights", settings.initial_weights, INITIAL_WEIGHTS)
    if settings.precision is not None:
        check_choice("precision", settings.precision, PRECISIONS)
    for name in ("discriminator_batch_norm", "minibatch_std"):
        if getattr(settings, name) and settings.networks == "published":
            raise ValueError(f"{name} is there in the dcgan networks only: choose networks=dcgan, too")
    if not 32 <= settings.image_size <= 1024 or settings.image_size % 8:
        raise ValueError(
            f"image_size {settings.image_size} does not fit: the discriminator halves it three times, so choose a "
            "multiple of 8 from 32 to 1024, such as 64, 128 or 256"
        )
    count_doublings(settings.generator_input_dim, settings.image_size)
    smallest = {"seed": 0, "simulated_people": 3}  # one person each to train, validate and test
    numbers = (
        "latent_dim",
        "filters",
        "kernel_size",
        "held_out_patients",
        "batch_size",
        "epochs",
        "r1_interval",
        "ssim_batches",
        "judge_interval",
        "steps_per_epoch",
        "steps_per_execution",
    )
    for name, least in (smallest | dict.fromkeys(numbers, 1)).items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} {value} is too small: choose {least} or more")
    if settings.seed >= 2**32:  # NumPy's and TensorFlow's limit
        raise ValueError(f"seed {settings.seed} is too large: choose less than 2**32 = {2**32}")
    for name in ("generator_learning_rate", "discriminator_learning_rate"):
        if not 0 < getattr(settings, name) < 1:
            raise ValueError(
                f"{name} {getattr(settings, name)} does not learn: choose more than 0 and less than 1, such as 1e-4"
            )
    for name in ("beta_1", "ema_decay", "translation"):
        if not 0 <= getattr(settings, name) < 1:
            raise ValueError(f"{name} {getattr(settings, name)} is out of range: choose 0 or more and less than 1")
    if not 0 <= settings.r1_gamma < math.inf:
        raise ValueError(f"r1_gamma {settings.r1_gamma} is out of range: choose 0 or more, but no infinity")


def count_doublings(generator_input_dim, image_size):
    """How many times generator_input_dim has to be doubled to make image_size.

    Raises:
        ValueError: doubling passes image_size by; the text lists the values that reach it.
    """
    halves = []  # of image_size: half, quarter, ...
    rest = image_size
    while rest % 2 == 0:
        rest //= 2
        halves.append(rest)
    if generator_input_dim not in halves:
        raise ValueError(
            f"generator_input_dim {generator_input_dim} does not reach image_size {image_size} by doubling; these do: "
            f"{', '.join(map(str, sorted(halves)))}"
        )
    return 1 + halves.index(generator_input_dim)


def project_path(path):
    """An absolute path: relative ones start at the project's top folder, wherever the notebook runs."""
    return PROJECT_FOLDER / Path(path).expanduser()


def short_path(path):
    """A path as text: from the project's top folder where it lies inside, so that `project_path` finds it again."""
    return str(path.relative_to(PROJECT_FOLDER) if path.is_relative_to(PROJECT_FOLDER) else path)
