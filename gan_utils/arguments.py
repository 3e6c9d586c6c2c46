"""What the commands of this package are told: experiment, profile, recipe, data and settings."""

import argparse
import os

from gan_utils.settings import choose_settings, read_changes

CHOICES = {  # name: (default, what the default means)
    "experiment": ("brain", "brain"),
    "profile": ("quick", "quick"),
    "recipe": ("baseline", "baseline"),
    "data": ("", "data/, else simulated people"),
    "settings": ("", "no further changes, such as epochs=100"),
}


def make_parser(module, description):
    """An `argparse.ArgumentParser` for `python -m module` with an option for each of `CHOICES`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for name, (default, meaning) in CHOICES.items():
        variable = f"GAN_{name.upper()}"
        help_text = f"default: the environment variable {variable}, or else {meaning}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable) or default, help=help_text)
    return parser


def settings_of(arguments):
    """`Settings` of what `make_parser` has parsed.

    Raises:
        ValueError: a choice that does not exist, usually a typing error.
    """
    named = {name: getattr(arguments, name) for name in CHOICES if name != "settings"}
    return choose_settings(**named, **read_changes(arguments.settings))
