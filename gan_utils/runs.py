"""The folder that holds everything a run leaves behind, and the notes on how it was made."""

import dataclasses
import json
import platform
import shutil
import subprocess
import zipfile
import zlib
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version

import numpy as np

from gan_utils.devices import choose_computing, describe_device
from gan_utils.layouts import DataError
from gan_utils.settings import PROJECT_FOLDER, SIMULATED, Settings, project_path, short_path

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-image", "matplotlib", "imageio", "nilearn")
STATE = "state.npz"


def start_run(settings, data):
    """Open the folder of the run, with `run.json` in it: a new one, or the one where this very run was cut off.

    Args:
        settings: `Settings` of the run.
        data: `SliceData` that it trains on.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        DataError: the run was cut off, and its data changed since.
    """
    folder = make_way(settings)
    notes = notes_on(settings, data)
    if epochs_done(folder):
        check_same_data(folder, data, ("slices", "people", "held_out"))
        before = read_json(folder / "run.json")
        later = {name: notes[name] for name in ("versions", "device", "commit", "started")}
        notes = before | {
            "settings": notes["settings"],
            "went_on": [*before.get("went_on", []), {"epochs_done": epochs_done(folder), **later}],
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", {**notes, "seconds": None})  # filled in when training ends
    return folder


def make_way(settings):
    """The folder of the run, rid of any earlier run; that one is renamed, so that nothing is lost, and a line says so.

    A run of the same settings that has epochs left to train stays, to go on. If it had been finished with fewer epochs,
    a copy is kept of it.
    """
    folder = settings.run_folder
    if not (folder / "run.json").exists():
        return folder
    before, now = read_json(folder / "run.json").get("settings", {}), dataclasses.asdict(settings)
    # A run may be prolonged, and other people are noticed when they are loaded.
    free = "epochs", "output", "data", "images_on_disk"
    changed = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in {**before, **now}
        if name not in free and before.get(name) != now.get(name)
    ]
    if changed:
        print(
            f"{short_path(folder)} held a run with other settings ({'; '.join(changed)}). It is kept in "
            f"{set_aside(folder).name}: to go on with that one, name it {folder.name} again and choose its settings."
        )
    elif not 0 < epochs_done(folder) < settings.epochs:
        print(f"The earlier run is kept in {set_aside(folder).name}.")
    elif (folder / "generator.keras").exists():
        print(f"The run of {epochs_done(folder)} epochs is kept in {set_aside(folder, copy=True).name}.")
        for result in ("generator.keras", "results.json"):
            (folder / result).unlink(missing_ok=True)
    return folder


def notes_on(settings, data):
    """What a reader needs to make a run again: settings, data, versions, device, seed, commit and date."""
    return {
        "settings": dataclasses.asdict(settings),
        "data": notes_on_data(data),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": describe_device(),
        "computing": dataclasses.asdict(choose_computing(settings)),
        "seed": settings.seed,
        "commit": commit(),
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def notes_on_data(data):
    splits = {"train": data.train, "validate": data.validate, "test": data.test}
    people = {name: np.unique(split.people).tolist() for name, split in splits.items()}
    return {
        "folder": short_path(data.folder),
        "simulated": data.simulated,
        "slices": {name: len(split) for name, split in splits.items()},
        "people": {name: len(numbers) for name, numbers in people.items()},
        "held_out": {name: people[name] for name in ("validate", "test")},
    }


def set_aside(folder, copy=False):
    """Rename a run's folder, or a copy of it, after the time it started, and return the new place."""
    stamp = read_json(folder / "run.json").get("started", "earlier").replace(":", "")
    kept = folder.with_name(f"{folder.name}-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}-{stamp}-{number}")
    if not copy:
        return folder.rename(kept)
    with written_beside(kept) as unfinished:
        shutil.copytree(folder, unfinished, dirs_exist_ok=True)
    return kept


def finish_run(folder, seconds, images_seen):
    """Note in `run.json` how long training took and how many training images it went through."""
    notes = read_json(folder / "run.json")
    notes.update(
        seconds=round(seconds, 1),
        images_seen=images_seen,
        images_per_second=round(images_seen / seconds, 1),
    )
    write_json(folder / "run.json", notes)


# ---- The state of training, to go on from ------------------------------------------------------------------


def save_state(gan, folder, epochs_done):
    """Write state.npz: all that training needs to go on after a whole epoch as if it had never been cut off.

    These are the weights of all networks, what both optimisers remember, the state of every random draw, and the number
    of epochs done, from which the order of the training images follows.

    Args:
        gan: `DCGAN`, compiled.
        folder: of the run.
        epochs_done: whole epochs so far.
    """
    arrays = {name: variable.numpy() for name, variable in named_variables(gan).items()}
    with written_beside(folder / STATE) as path:
        np.savez(path, epochs_done=epochs_done, **arrays)


def restore_state(gan, folder):
    """Put a `DCGAN` into the state that `save_state` wrote, and return how many epochs were done: 0 without a state.

    Raises:
        DataError: the file is broken or belongs to other networks, usually those of another version of gan_utils.
    """
    variables = named_variables(gan)
    with opened_state(folder) as state:
        if state is None:
            return 0
        arrays = dict(state)  # each is read from the file when it is asked for, so here once
        epochs_done = int(arrays.pop("epochs_done"))
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise DataError(
                f"{short_path(folder / STATE)} holds other networks than these settings build, usually those of "
                "another version of gan_utils. Rename the folder, and training starts anew."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
        return epochs_done


def epochs_done(folder):
    """How many whole epochs the run in a folder can go on from; 0 without a state."""
    with opened_state(folder) as state:
        return int(state["epochs_done"]) if state else 0


@contextmanager
def opened_state(folder):
    path = folder / STATE
    if not path.exists():
        yield None
        return
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as state:  # numbers only, never code
            yield state
    except DataError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{short_path(path)} is broken ({error}). Delete it, and training starts anew.") from error


def named_variables(gan):
    """{name: variable} of everything that changes while a compiled `DCGAN` trains."""
    owners = {
        "gan": gan,
        "generator_optimizer": gan.generator_optimizer,
        "discriminator_optimizer": gan.discriminator_optimizer,
    }
    return {
        f"{owner} {number}": variable
        for owner, thing in owners.items()
        for number, variable in enumerate(thing.variables)
    }


# ---- Runs that are opened again ----------------------------------------------------------------------------


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


def check_same_data(folder, data, names=("held_out",)):
    """Raise DataError where the data are no longer what the run in a folder was trained on.

    The usual cause is a patient who was added to the data folder or taken out of it since: then other people are held
    out, and those trained the run.

    Args:
        folder: of the run.
        data: `SliceData` as loaded now.
        names: what to compare of the notes on the data.
    """
    before, now = read_json(folder / "run.json")["data"], notes_on_data(data)
    for name in names:
        if before[name] != now[name]:
            raise DataError(
                f"{data.folder} has changed since {short_path(folder)} was trained: {name.replace('_', ' ')} were "
                f"{before[name]}, now {now[name]}. Put the files back as they were, or train again in another output "
                "folder."
            )


def save_results(folder, **results):
    """Put figures into the run's `results.json`, beside those that are there already."""
    path = folder / "results.json"
    write_json(path, {**(read_json(path) if path.exists() else {}), **results})


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{short_path(path)} is broken ({error}). Rename its folder, and start anew.") from error


def write_json(path, content):
    with written_beside(path) as beside:
        beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def written_beside(path):
    """A path to write to that takes the place of `path` once all is written: nothing that is killed leaves half a file.

    Raises:
        OSError: the disk is full, or the folder may not be written to; whatever stood at `path` is still there.

    Example:
        >>> with written_beside(folder / "generator.keras") as path:
        ...     generator.save(path)
    """
    beside = path.with_name(f"unfinished_{path.name}")  # the ending stays: it tells savers the format
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        cause = error.strerror or error
        raise OSError(f"{path} cannot be written ({cause}). Make room, or choose another output folder.") from error
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        beside.unlink(missing_ok=True)


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
