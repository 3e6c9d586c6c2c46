"""The folder that holds everything a run leaves behind: how it was made, the state to resume from, the results."""

import dataclasses
import os
import platform
import shutil
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version

import numpy as np
from filelock import FileLock, Timeout

from gan_utils import DataError, atomic_write, counted, newest, project_path, read_json, short_path, write_json
from gan_utils.data import PHANTOMS, loaded_by, steps_in_epoch
from gan_utils.fast import choose_computing, commit, describe_device
from gan_utils.networks import save_network
from gan_utils.pair import LOSSES, describe_model, epochs_done, restore_state
from gan_utils.settings import Settings

PACKAGES = ("tensorflow", "keras", "numpy", "scikit-image", "matplotlib", "imageio", "nilearn")
SUBJECTS = ("slices", "people", "held_out")  # of the notes on data, what tells one set of subjects from another
FINISHED = (
    ": this run is finished. For more, ask for more epochs; to start over, rename or delete its folder, or choose "
    "another seed or output"
)


@contextmanager
def training(settings, splits, model):
    """The folder of a run while a model trains into it, as a with block: (folder, epochs done before).

    What makes a run are its settings, networks and losses. Where one of them differs from those of the run that is
    there, that one is renamed and a new one starts; where none does, the model continues after the last whole epoch, or
    finds that nothing is left to train. At the end, also of an interrupted training, the generator of the last whole
    epoch is saved, and `run.json` says how far it came.

    Args:
        settings: `Settings` as they are now.
        splits: `Splits` that were loaded by them.
        model: compiled, untrained `GAN`, such as `build_gan` makes.

    Raises:
        ValueError: the splits were loaded, or the model was trained, by other settings before.
        DataError: another process trains this run, or its data changed since it began.

    Example:
        >>> with run_folder.training(settings, splits, model) as (folder, epochs_done):
        ...     model.fit(batches, initial_epoch=epochs_done, epochs=settings.epochs, ...)
    """
    if changed := differences(splits.loaded_by, loaded_by(settings)):
        raise ValueError(
            f"The slices were loaded by other settings ({'; '.join(changed)}). Run the cells of Settings and Data "
            "again, then this one."
        )
    if model.latent_dim != settings.latent_dim:
        raise ValueError(f"Your generator takes {model.latent_dim} latents, latent_dim is {settings.latent_dim}")
    if len(model.generator.inputs) > 1:
        raise ValueError(
            "A run's callbacks make images from latents alone, and your generator takes more: train it by model.fit "
            "with callbacks of your own."
        )
    if model.generator_optimizer.iterations.numpy():
        raise ValueError("This model has been trained already: build it anew, as the training cell does.")
    with only_one(settings.run_folder):
        folder = start_run(settings, splits, model)
        done = restore_state(model, folder)
        finished = FINISHED if done >= settings.epochs else ""
        print(f"{done} of {counted(settings.epochs, 'epoch')} done{finished}", flush=True)
        try:
            yield folder, done
        finally:
            restore_state(model, folder)  # of the last whole epoch, whatever callbacks did at the end
            finish_run(settings, splits, model)


@contextmanager
def only_one(folder):
    """Refuse to train into a folder that another process trains into; the system frees it when that process dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)  # one a process, which may enter again
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notes = read_json(folder / "run.json") if (folder / "run.json").exists() else {}
        raise DataError(
            f"{short_path(folder)} is being trained by process {notes.get('process', 'unknown')} since "
            f"{notes.get('started', 'just now')}. Wait until it ends, or stop it (in JupyterLab: Kernel, Shut Down "
            "Kernel), or choose another output."
        ) from None
    try:
        yield
    finally:
        lock.release()


def start_run(settings, splits, model):
    """The run's folder with its notes in it; where another run is there, that one is renamed."""
    folder, notes = settings.run_folder, run_notes(settings, splits)
    notes |= {"model": describe_model(model), "process": os.getpid(), "finished": False}
    if (folder / "run.json").exists():
        before, done = read_json(folder / "run.json"), epochs_done(folder)
        if changed := what_changed(before, notes):
            kept = archive(folder).name
            print(f"{short_path(folder)} held another run ({'; '.join(changed)}). It is kept in {kept}.")
            print(f"To continue that one, name it {folder.name} again, and choose what it had.")
        elif done:
            check_same_data(folder, splits, SUBJECTS)
            if done >= settings.epochs:
                return folder
            notes = continue_run(folder, before, notes, done)
        elif (folder / "history.csv").exists():  # its state was deleted
            print(f"The earlier run is kept in {archive(folder).name}.")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", notes)
    return folder


def continue_run(folder, before, notes, done):
    """The notes of a run that continues; results of fewer epochs make room, and of a finished run a copy is kept."""
    if before.get("finished"):
        print(f"The run of {counted(done, 'epoch')} is kept in {archive(folder, copy=True).name}.")
    for result in ("generator.keras", "results.json"):
        (folder / result).unlink(missing_ok=True)
    later = {name: notes[name] for name in ("versions", "device", "commit", "started", "process")}
    went_on = [*before.get("went_on", []), {"epochs_done": done, **later}]
    return before | {name: notes[name] for name in ("settings", "process", "finished")} | {"went_on": went_on}


def what_changed(before, now):
    """In words, what makes two runs' notes those of different runs: settings, networks, losses or optimisers."""
    free = "epochs", "output", "data"  # a run may be prolonged, and other subjects are noticed when they are loaded
    changed = differences(before.get("settings", {}), now["settings"], free)
    data, data_now = before.get("data", {}), now["data"]
    if data.get("folder") != data_now["folder"] and any(data.get(name) != data_now[name] for name in SUBJECTS):
        changed.append(f"data were {data.get('folder')}, are {data_now['folder']}")  # the same ones may have moved
    if "model" not in before:
        return [*changed, "made by another version of gan_utils"]
    # Networks and optimisers follow the settings, losses that of the loss alone.
    follow = {line.split()[0] for line in changed} - {"seed", "data"}
    for part in {**before["model"], **now["model"]}:
        follows = "loss" in follow if part in LOSSES else follow
        if not follows and before["model"].get(part) != now["model"].get(part):
            changed.append(f"another {part}")
    return changed


def differences(before, now, free=()):
    """["batch_size was 8, is 16", ...] of two dicts."""
    names = [name for name in {**before, **now} if name not in free and before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)}, is {now.get(name)}" for name in names]


def finish_run(settings, splits, model):
    """Save the generator of the last whole epoch, and note in `run.json` how far training came and how long it took."""
    folder = settings.run_folder
    done = epochs_done(folder)
    progress = {"epochs_done": done, "finished": done >= settings.epochs}
    if done and not (folder / "generator.keras").exists():
        with atomic_write(folder / "generator.keras") as path:
            save_network(model.averaged_generator, path)
        seconds = float(read_history(folder)["seconds"][done - 1])
        images_seen = done * steps_in_epoch(splits.train.images, settings) * settings.batch_size
        rate = {"images_per_second": round(images_seen / seconds, 1)} if seconds else {}
        progress |= {"seconds": round(seconds, 1), "images_seen": images_seen, **rate}
    write_json(folder / "run.json", read_json(folder / "run.json") | progress)


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


# ---- runs that are opened again ----------------------------------------------------------------------------


def open_run(settings):
    """Folder and settings of the finished run that `settings` name, as notebook 03 left them.

    Their `data` is the folder that the run was trained on, so that it is evaluated with the same subjects, unless DATA
    names another one, to which it has moved.

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
    data = settings.data or notes["data"]["folder"]
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
    before = read_json(path) if path.exists() else {}
    write_json(path, {n: before[n] for n in before if n.removesuffix("_reason") not in results} | results)


def read_history(folder):
    """`history.csv` as a structured array with a row per epoch: history["epoch"], history["generator_loss"], ...

    Raises:
        FileNotFoundError: no epoch of this run is finished yet.
    """
    path = newest(folder / "history.csv")
    if not path.exists():
        raise FileNotFoundError(f"No epoch of {folder.name} is finished yet. Run the training cell of 03_train.ipynb.")
    # Names as they are: genfromtxt would take blanks and hyphens out of them.
    return np.atleast_1d(
        np.genfromtxt(path, delimiter=",", names=True, deletechars="", replace_space=" ", comments=None)
    )
