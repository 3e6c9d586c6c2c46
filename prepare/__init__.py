"""PNG slices made on disk: digital phantoms for a first run without data, and slices cut from your own volumes."""

import os
from contextlib import contextmanager

from filelock import FileLock, Timeout

from gan_utils import DataError, ProgressLine
from gan_utils.data import needs_phantoms, phantom_folder


def phantoms(settings):
    """Write the digital phantoms that the settings ask for; at once where they are there, or data of your own are.

    Built from the MNI152 average brain (brains) or from tables and chance (knees): nobody was scanned for them. They
    are PNG slices in the published layout, in a folder of data/ that may be deleted. Of several processes that want the
    same phantoms one makes them, and the others wait.

    Args:
        settings: `Settings`; uses experiment, data, image_size and phantom_subjects.

    Raises:
        DataError: they or the run's folder cannot be written, or there are no phantoms for this experiment.

    Example:
        >>> prepare.phantoms(settings)
        >>> splits = data.load(settings)
    """
    check_writable(settings.run_folder)  # here, because every run comes by before it loads and trains for hours
    folder = phantom_folder(settings)
    if not needs_phantoms(settings) or folder.exists():
        return
    if settings.experiment not in PHANTOM_WRITERS:
        raise DataError(f"There are no phantoms of {settings.experiment}: point DATA at slices of your own.")
    write = PHANTOM_WRITERS[settings.experiment]
    try:
        folder.parent.mkdir(exist_ok=True)
        with only_writer(folder.with_name(f".{folder.name}.lock")):
            if not folder.exists():  # another process may have made them by now
                with ProgressLine(f"Making {settings.experiment} phantoms, no real scans") as progress:
                    write(folder, settings.image_size, settings.phantom_subjects, progress.update)
    except OSError as error:
        raise DataError(
            f"The {settings.experiment} phantoms cannot be written to {folder} ({error.strerror or error}). Make room "
            "or allow yourself to write there, or choose fewer phantom_subjects."
        ) from error


def check_writable(folder, choice="output"):
    """Refuse a folder that cannot be made or written to, before anything is computed for it."""
    place = folder
    try:
        place = next((parent for parent in (folder, *folder.parents) if parent.is_symlink() or parent.exists()), folder)
        probe = place / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"Nothing can be written to {folder} ({place}: {error.strerror}). Choose another {choice} folder, or allow "
            "yourself to write there."
        ) from error


@contextmanager
def only_writer(lock_file):
    """Wait until no other process is in here; the system lets the next one in when a process dies."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another process is making these phantoms; waiting for it.", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_brain_phantoms(folder, image_size, subjects, progress):
    from prepare import brain_phantom  # here, because importing SciPy takes a quarter of a second

    brain_phantom.write_brain_phantoms(folder, image_size, subjects, progress=progress)


def write_knee_phantoms(folder, image_size, subjects, progress):
    from prepare import knee_phantom

    knee_phantom.write_knee_phantoms(folder, image_size, subjects, progress=progress)


PHANTOM_WRITERS = {"brain": write_brain_phantoms, "knee": write_knee_phantoms}
