"""What to train, on what, how large and how long: one frozen record, saved with every run."""

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
SIMULATED = "simulated"  # as the data folder: simulated people even where data/ holds real slices
EXPERIMENTS = ("brain", "knee")
RECIPES = ("baseline",)


def explained(reason, **options):
    """A dataclass field that carries its unit and reason, so that notebooks can show them."""
    return field(metadata={"reason": reason}, **options)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice behind a run. Make one with `choose_settings`, as every notebook does."""

    experiment: str = explained("which system: brain (OASIS) or knee (OAI AKOA)")
    recipe: str = explained("baseline: the published networks and update, in the size that the profile says")
    profile: str = explained("smoke: only tests the code; quick: two CPU cores; full: as published, for a GPU")
    data: str | None = explained("folder of your own slices, or simulated; None: what lies in data/, else simulated")
    output: str = explained(
        "folder that holds a folder for each run",
        default_factory=lambda: os.environ.get("GAN_OUTPUT") or "epoch_images",
    )
    seed: int = explained("start of every random draw", default=1)
    simulated_people: int = explained("people to simulate where there is no data", default=60)
    image_size: int = explained("width and height of the training images, in pixels")
    latent_dim: int = explained("length of the random vector that the generator turns into an image", default=100)
    filters: int = explained("width of the networks: the largest layers have 4 times as many channels")
    batch_size: int = explained("images in one training step", default=16)
    epochs: int = explained("how many epochs to train")
    steps_per_epoch: int | None = explained(
        "training steps in an epoch; None: as many as show every training image once", default=None
    )
    generator_learning_rate: float = explained("Adam step size of the generator", default=1e-4)
    discriminator_learning_rate: float = explained("Adam step size of the discriminator", default=1e-4)
    beta_1: float = explained("Adam memory of past gradients, 0 to 1", default=0.9)
    ssim_batches: int = explained("training batches that each epoch's images are compared with", default=50)

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


# What a profile changes. `full` is the published system; the others are smaller copies of it.
# A quick run sees a third as many images as a published one, so it takes larger steps. In trials at 64 pixels with
# steps of 5e-4, images after 52,000 showed the lattice of 3x3 kernels with beta_1 0.9, and none with 0.5.
PROFILES = {
    "brain": {
        "full": {"image_size": 256, "filters": 64, "epochs": 50},
        "quick": {
            "image_size": 64,
            "filters": 32,
            "epochs": 50,
            "steps_per_epoch": 192,
            "generator_learning_rate": 5e-4,
            "discriminator_learning_rate": 5e-4,
            "beta_1": 0.5,
        },
        "smoke": {
            "image_size": 32,
            "filters": 4,
            "epochs": 2,
            "steps_per_epoch": 4,
            "simulated_people": 10,
        },
    },
}


def choose_settings(experiment="brain", profile="quick", recipe="baseline", data=None, **changes):
    """Settings of one run: a profile of an experiment, with your changes on top.

    Args:
        experiment: "brain".
        profile: "smoke", "quick" or "full".
        recipe: "baseline".
        data: folder with your own slices (a relative one is looked up from the project's top folder), "simulated", or
            None: what lies in data/, else simulated people.
        **changes: any other field of `Settings`, such as `epochs=100`.

    Raises:
        ValueError: a choice that does not exist, or a number out of its range; usually a typing error.

    Example:
        >>> choose_settings("brain", "smoke", epochs=3).epochs
        3
    """
    check_choice("experiment", experiment, EXPERIMENTS)
    check_choice("recipe", recipe, RECIPES)
    if experiment not in PROFILES:
        raise ValueError("experiment 'knee' is not part of the tutorial yet; choose 'brain'")
    profiles = PROFILES[experiment]
    check_choice("profile", profile, tuple(profiles))
    unknown = sorted(set(changes) - {f.name for f in dataclasses.fields(Settings)})
    if unknown:
        raise ValueError(f"no such setting: {', '.join(unknown)}; the settings are the fields of Settings")
    chosen = {"experiment": experiment, "profile": profile, "recipe": recipe, "data": str(data) if data else None}
    settings = Settings(**{**chosen, **profiles[profile], **changes})
    check_ranges(settings)
    return settings


def check_choice(name, value, known):
    if value not in known:
        raise ValueError(f"{name} '{value}' is not known; choose one of: {', '.join(known)}")


def check_ranges(settings):
    """Refuse numbers that would fail much later, deep inside a library."""
    if settings.image_size < 32 or settings.image_size % 8:
        raise ValueError(
            f"image_size {settings.image_size} does not fit: the generator doubles its first feature map three "
            "times, so choose a multiple of 8 of at least 32, such as 64, 128 or 256"
        )
    for name in ("latent_dim", "filters", "batch_size", "epochs", "ssim_batches", "steps_per_epoch"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} {value} is too small: choose 1 or more")
    for name in ("generator_learning_rate", "discriminator_learning_rate"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} {getattr(settings, name)} does not learn: choose more than 0, such as 1e-4")
    if not 0 <= settings.beta_1 < 1:
        raise ValueError(f"beta_1 {settings.beta_1} is out of range: choose 0 or more and less than 1")


def project_path(path):
    """An absolute path: relative ones start at the project's top folder, wherever the notebook runs."""
    return PROJECT_FOLDER / Path(path).expanduser()


def short_path(path):
    """A path as text: from the project's top folder where it lies inside, so that `project_path` finds it again."""
    return str(path.relative_to(PROJECT_FOLDER) if path.is_relative_to(PROJECT_FOLDER) else path)
