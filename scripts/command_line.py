"""The command-line options that all scripts share: experiment, profile, recipe, data and settings."""

import argparse
import dataclasses
import os
import sys

from gan_utils.data import DATASETS
from gan_utils.settings import NAMED, RECIPES, TYPE_WORDS, Settings, choose_settings, read_changes, read_settings_file
from prepare import check_writable

# Option: (its values, the default). The environment (GAN_EXPERIMENT, ...) and notebooks/settings.toml come first.
COMMAND_LINE = {
    "experiment": ("|".join(DATASETS), "brain"),
    "profile": ("|".join(DATASETS["brain"].profiles), "quick"),
    "recipe": ("|".join(RECIPES), "baseline"),
    "data": ("FOLDER|phantoms", ""),
    "settings": ('"NAME=VALUE ..."', ""),
}
WITHOUT = {"data": "slices in data/, or else digital phantoms", "settings": "no further changes"}


def make_parser(module, description, without=(), trains=False):
    """An `argparse.ArgumentParser` for `python -m module`, with an option for each of `COMMAND_LINE` but some."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=None if "settings" in without else describe_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    in_file = settings_of_file()
    for name, (values, default) in COMMAND_LINE.items():
        variable = f"GAN_{name.upper()}"
        chosen = os.environ.get(variable)
        if name not in without:
            default = in_file.get(name) or default
            help_text = f"default: the environment variable {variable}, or else {default or WITHOUT[name]}"
            parser.add_argument(f"--{name}", default=chosen or default, metavar=values, help=help_text)
        elif chosen:
            print(f"{variable} ({name.upper()}) {chosen} has no effect on {module}.", file=sys.stderr)
    if trains:
        parser.add_argument("--start-over", action="store_true", help="train a run anew that is there already")
    return parser


def settings_of_file():
    """What notebooks/settings.toml says, so that commands and notebooks do the same."""
    try:
        return read_settings_file()
    except ValueError as error:
        sys.exit(f"Cannot start: {error}")


def describe_settings():
    """The settings for --settings, a line each: name, values and meaning."""
    fields = [f for f in dataclasses.fields(Settings) if f.name not in NAMED]
    lines = [f"  {f.name}={values_of(f)}\n      {f.metadata['reason']}" for f in fields]
    return "\n".join(['settings, for --settings "epochs=100 batch_size=32":', *lines])


def values_of(field):
    """The values of a setting in words, such as 'a whole number, 1 or more'."""
    limits, types = field.metadata, getattr(field.type, "__args__", (field.type,))
    words = {"least": "{} or more", "above": "more than {}", "below": "less than {}"}
    limited = [text.format(limits[name]) for name, text in words.items() if limits[name] not in (None, float("inf"))]
    kinds = "|".join(limits["choices"]) if limits["choices"] else TYPE_WORDS[types[0]]
    return ", ".join([kinds, *limited]) + "; or None" * (type(None) in types)


def start_over(settings):
    """Rename the run that is there, if any, so that training starts anew."""
    from gan_utils.run_folder import archive, only_one  # here, because it imports TensorFlow

    with only_one(settings.run_folder):
        if (settings.run_folder / "run.json").exists():
            print(f"The earlier run is kept in {archive(settings.run_folder).name}.", flush=True)


def changes_of(arguments):
    """{setting: value} that was changed, in notebooks/settings.toml or, which wins, by --settings."""
    in_file = {name: value for name, value in settings_of_file().items() if name not in NAMED}
    return in_file | read_changes(arguments.settings)


def parsed_settings(arguments):
    """`Settings` of what `make_parser` has parsed; the output folder is writable."""
    named = {name: value for name, value in vars(arguments).items() if name in NAMED}
    settings = choose_settings(**named, **changes_of(arguments))
    check_writable(settings.run_folder)
    return settings
