"""The folder that holds everything a run leaves behind: how it was made, the state to resume from, the results."""

import dataclasses
import platform
import shutil
import subprocess
import zipfile
import zlib
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version

import numpy as np

from gan_utils import PROJECT_FOLDER, DataError, atomic_write, newest, project_path, read_json, short_path, write_json
from gan_utils.data import PHANTOMS
from gan_utils.fast import choose_computing, describe_device
from gan_utils.settings import Settings

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-image", "matplotlib", "imageio", "nilearn")
STATE = "state.npz"


def start_run(settings, splits):
    """Open the folder of the run, with `run.json` in it: a new one, or that of this very run where it was cut off.

    Raises:
        DataError: the run was cut off, and its data changed since.
    """
    folder = prepare_run_folder(settings)
    notes = run_notes(settings, splits)
    if done := epochs_done(folder):
        check_same_data(folder, splits, ("slices", "people", "held_out"))
        before = read_json(folder / "run.json")
        later = {name: notes[name] for name in ("versions", "device", "commit", "started")}
        went_on = [*before.get("went_on", []), {"epochs_done": done, **later}]
        notes = before | {"settings": notes["settings"], "went_on": went_on}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", {**notes, "seconds": None})  # filled in when training ends
    return folder


def prepare_run_folder(settings):
    """Return the run's folder; archive an earlier run there, unless it has these settings and epochs left to train.

    Of a finished run that is to be trained for longer, a copy is archived.
    """
    folder = settings.run_folder
    if not (folder / "run.json").exists():
        return folder
    before, now = read_json(folder / "run.json").get("settings", {}), dataclasses.asdict(settings)
    free = "epochs", "output", "data"  # a run may be prolonged, and other subjects are noticed when they are loaded
    changed = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in {**before, **now}
        if name not in free and before.get(name) != now.get(name)
    ]
    if changed:
        print(
            f"{short_path(folder)} held a run with other settings ({'; '.join(changed)}). It is kept in "
            f"{archive(folder).name}: to continue that one, name it {folder.name} again and choose its settings."
        )
        return folder
    done, finished = epochs_done(folder), (folder / "generator.keras").exists()
    if done == 0 or done > settings.epochs or (finished and done == settings.epochs):
        print(f"The earlier run is kept in {archive(folder).name}.")
    elif finished:
        print(f"The run of {done} epoch{'s' * (done > 1)} is kept in {archive(folder, copy=True).name}.")
        for result in ("generator.keras", "results.json"):
            (folder / result).unlink(missing_ok=True)
    return folder


def run_notes(settings, splits):
    """What a reader needs to make a run again: settings, data, versions, device, seed, commit and date."""
    return {
        "settings": dataclasses.asdict(settings),
        "data": data_notes(splits),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "device": describe_device(),
        "computing": dataclasses.asdict(choose_computing(settings)),
        "seed": settings.seed,
        "commit": commit(),
        "started": datetime.now().isoformat(timespec="seconds"),
    }


def data_notes(splits):
    named = {"train": splits.train, "validate": splits.validate, "test": splits.test}
    subjects = {name: np.unique(split.subjects).tolist() for name, split in named.items()}
    return {
        "folder": short_path(splits.folder),
        "simulated": splits.phantoms,
        "slices": {name: len(split) for name, split in named.items()},
        "people": {name: len(numbers) for name, numbers in subjects.items()},
        "held_out": {name: subjects[name] for name in ("validate", "test")},
    }


def archive(folder, copy=False):
    """Rename a run's folder, or a copy of it, after the time it started, and return the new place."""
    stamp = read_json(folder / "run.json").get("started", "earlier").replace(":", "")
    place, number = folder.with_name(f"{folder.name}-{stamp}"), 1
    while place.exists():
        number += 1
        place = folder.with_name(f"{folder.name}-{stamp}-{number}")
    if not copy:
        return folder.rename(place)
    with atomic_write(place) as unfinished:
        shutil.copytree(folder, unfinished, dirs_exist_ok=True)
    return place


def finish_run(folder, model, images_seen):
    """Save the generator, and note in `run.json` how long training took and how many images it went through."""
    with atomic_write(folder / "generator.keras") as path:
        model.averaged_generator.save(path)
    seconds = float(read_history(folder)["seconds"][-1])
    taken = {"seconds": round(seconds, 1), "images_seen": images_seen}
    taken["images_per_second"] = round(images_seen / seconds, 1)
    write_json(folder / "run.json", read_json(folder / "run.json") | taken)


# ---- the state of training ---------------------------------------------------------------------------------


def save_state(model, folder, epochs_done):
    """Write state.npz: all that training needs to resume after a whole epoch as if it had never been cut off.

    These are the weights of all networks, what both optimisers remember, the states of all random generators, and the
    number of epochs done, from which the order of the training images follows. One file, replaced atomically: a kill
    at any moment leaves the state of a whole epoch.
    """
    arrays = {name: variable.numpy() for name, variable in named_variables(model).items()}
    with atomic_write(folder / STATE) as path:
        np.savez(path, epochs_done=epochs_done, **arrays)


def restore_state(model, folder):
    """Put a compiled `GAN` into the state that `save_state` wrote; returns the epochs done, 0 without a state."""
    variables = named_variables(model)
    with open_state(folder) as state:
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
    """How many whole epochs the run in a folder can continue after; 0 without a state."""
    with open_state(folder) as state:
        return int(state["epochs_done"]) if state else 0


@contextmanager
def open_state(folder):
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


def named_variables(model):
    """{name: variable} of everything that changes while a compiled `GAN` trains."""
    owners = {
        "gan": model,
        "generator_optimizer": model.generator_optimizer,
        "discriminator_optimizer": model.discriminator_optimizer,
    }
    return {f"{owner} {n}": variable for owner, thing in owners.items() for n, variable in enumerate(thing.variables)}


# ---- runs that are opened again ----------------------------------------------------------------------------


def open_run(settings):
    """Folder and settings of the finished run that `settings` name, as notebook 03 left them.

    Their `data` is the folder that the run was trained on, so that it is evaluated with the same subjects.

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
        data = PHANTOMS  # the same ones are made anew
    try:
        return folder, Settings(**{**notes["settings"], "output": settings.output, "data": data})
    except TypeError as error:
        raise ValueError(
            f"{short_path(folder)} was made by another version of gan_utils, with other settings. Train it again."
        ) from error


def check_same_data(folder, splits, names=("held_out",)):
    """Raise DataError where the data, by the `names` in their notes, are no longer those of the run in a folder.

    The usual cause is a patient who was added to the data folder or removed since: then other patients are held out,
    and those have trained the run.
    """
    before, now = read_json(folder / "run.json")["data"], data_notes(splits)
    for name in names:
        if before[name] != now[name]:
            raise DataError(
                f"{splits.folder} has changed since {short_path(folder)} was trained: {name.replace('_', ' ')} were "
                f"{before[name]}, now {now[name]}. Put the files back as they were, or train again in another output "
                "folder."
            )


def save_results(folder, **results):
    """Add results to the run's `results.json`."""
    path = folder / "results.json"
    write_json(path, {**(read_json(path) if path.exists() else {}), **results})


def read_history(folder):
    """`history.csv` as a structured array with a row an epoch: history["epoch"], history["generator_loss"], ...

    Raises:
        FileNotFoundError: no epoch of this run is finished yet.
    """
    path = newest(folder / "history.csv")
    if not path.exists():
        raise FileNotFoundError(f"No epoch of {folder.name} is finished yet. Run the training cell of 03_train.ipynb.")
    return np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))


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
