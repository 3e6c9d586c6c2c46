"""The folder that holds everything a run leaves behind, and the notes on how it was made."""

import dataclasses
import json
import platform
import subprocess
from datetime import datetime
from importlib.metadata import version

import numpy as np

from gan_utils.devices import choose_computing, describe_device
from gan_utils.layouts import DataError
from gan_utils.settings import PROJECT_FOLDER, SIMULATED, Settings, project_path, short_path

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-image", "matplotlib", "imageio", "nilearn")


def start_run(settings, data):
    """Make the run's folder and write `run.json`; an earlier run of that name is kept under another one.

    Args:
        settings: `Settings` of the run.
        data: `SliceData` that it trains on.

    Returns:
        The folder as a `pathlib.Path`.
    """
    folder = settings.run_folder
    if (folder / "run.json").exists():
        print(f"The earlier run is kept in {set_aside(folder).name}.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", {**notes_on(settings, data), "seconds": None})  # filled in when training ends
    return folder


def notes_on(settings, data):
    """What a reader needs to make a run again: settings, data, versions, device, seed, commit and date."""
    splits = {"train": data.train, "validate": data.validate, "test": data.test}
    return {
        "settings": dataclasses.asdict(settings),
        "data": {
            "folder": short_path(data.folder),
            "simulated": data.simulated,
            "slices": {name: len(split) for name, split in splits.items()},
            "people": {name: len(set(split.people.tolist())) for name, split in splits.items()},
            "held_out": held_out_people(data),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": describe_device(),
        "computing": dataclasses.asdict(choose_computing(settings)),
        "seed": settings.seed,
        "commit": commit(),
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def set_aside(folder):
    """Rename a run's folder after the time it started, so that nothing is lost; returns its new place."""
    stamp = read_json(folder / "run.json")["started"].replace(":", "")
    kept = folder.with_name(f"{folder.name}-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}-{stamp}-{number}")
    return folder.rename(kept)


def finish_run(folder, seconds, images_seen):
    """Note in `run.json` how long training took and how many training images it went through."""
    notes = read_json(folder / "run.json")
    notes.update(
        seconds=round(seconds, 1),
        images_seen=images_seen,
        images_per_second=round(images_seen / seconds, 1),
    )
    write_json(folder / "run.json", notes)


def open_run(settings):
    """Folder and settings of the finished run that `settings` name, as notebook 03 left them.

    Their `data` is the folder that the run was trained on, so that it is judged by the same people. (Simulated people
    are the same when they are made anew.)

    Raises:
        FileNotFoundError: there is no such run; train it first.
        ValueError: the run was made by another version of this package.
    """
    folder = settings.run_folder
    if not (folder / "generator.keras").exists():
        raise FileNotFoundError(
            f"No finished run in {short_path(folder)}. Run 03_train.ipynb first, with the same experiment, profile, "
            "recipe and output."
        )
    notes = read_json(folder / "run.json")
    data = notes["data"]["folder"]
    if notes["data"]["simulated"] and not project_path(data).exists():
        data = SIMULATED
    try:
        return folder, Settings(**{**notes["settings"], "output": settings.output, "data": data})
    except TypeError as error:
        raise ValueError(
            f"{short_path(folder)} was made by another version of gan_utils, with other settings. Train it again."
        ) from error


def held_out_people(data):
    """The numbers of the people that a run must not train on: {"validate": [...], "test": [...]}."""
    return {"validate": np.unique(data.validate.people).tolist(), "test": np.unique(data.test.people).tolist()}


def check_held_out_people(folder, data):
    """Raise DataError when other people are held out now than when the run was trained: those would have trained it.

    The usual cause is a patient who was added to the data folder or taken out of it since.
    """
    before, now = read_json(folder / "run.json")["data"]["held_out"], held_out_people(data)
    if before != now:
        raise DataError(
            f"{data.folder} has changed since {short_path(folder)} was trained: held out were {before}, now {now}. "
            "Put the files back as they were, or train again."
        )


def save_results(folder, **results):
    """Put figures into the run's `results.json`, beside those that are there already."""
    path = folder / "results.json"
    write_json(path, {**(read_json(path) if path.exists() else {}), **results})


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path, content):
    """Write beside, then rename: a reader never meets half a file."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


def commit():
    """The project's git commit, with -dirty behind it where files were changed since; None outside a clone."""
    try:
        command = ["git", "-C", str(PROJECT_FOLDER), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def describe_setup():
    """One line with the versions and the device, for the top of a notebook."""
    return f"TensorFlow {version('tensorflow')}, Keras {version('keras')}, on {describe_device()}"
