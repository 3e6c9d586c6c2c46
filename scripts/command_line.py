"""The command-line options that all scripts share: experiment, profile, recipe, data and settings."""

import argparse
import os

from gan_utils.settings import choose_settings, read_changes

COMMAND_LINE = {  # option: (default, what the default means); GAN_EXPERIMENT and so on in the environment come first
    "experiment": ("brain", "brain"),
    "profile": ("quick", "quick"),
    "recipe": ("baseline", "baseline"),
    "data": ("", "slices in data/, else digital phantoms"),
    "settings": ("", "no further changes, such as epochs=100"),
}


def make_parser(module, description, trains=False):
    """An `argparse.ArgumentParser` for `python -m module`, with an option for each of `COMMAND_LINE`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    for name, (default, meaning) in COMMAND_LINE.items():
        variable = f"GAN_{name.upper()}"
        help_text = f"default: the environment variable {variable}, or else {meaning}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable) or default, help=help_text)
    if trains:
        parser.add_argument("--start-over", action="store_true", help="train a run anew that is there already")
    return parser


def start_over(settings):
    """Rename the run that is there, if any, so that training starts anew."""
    from gan_utils.run_folder import archive  # here, because it imports TensorFlow

    if (settings.run_folder / "run.json").exists():
        print(f"The earlier run is kept in {archive(settings.run_folder).name}.", flush=True)


def parsed_settings(arguments):
    """`Settings` of what `make_parser` has parsed."""
    named = {name: getattr(arguments, name) for name in COMMAND_LINE if name != "settings"}
    return choose_settings(**named, **read_changes(arguments.settings))
