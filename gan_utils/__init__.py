"""The helpers behind the notebooks, one idea per module: each imports only those listed before it.

slices      PNG files: what their names say, and what they must be
data        `DATASETS`, and slices from disk to training batches
settings    what to train, on what, how large and how long
networks    the pairs of generator and discriminator, two published and one improved
fast        on which devices it is computed, and by which faster kernels
pair        what Keras asks of two networks: compile, save, load, resume, tell one run from another
gan         the losses and one training step, as a Keras model
run_folder  the folder that holds everything a run leaves behind
image_statistics  what is measured in images: SSIM, patches, spectra, nearest neighbours
features    small networks, random or trained here, whose features sets of images are compared by
anatomy     areas, lengths and symmetry of brains and knees
metrics     `METRICS`, the one table of metrics, and when they raise a warning
evaluator   every metric of generated images beside the same of real ones
plots       image grids, GIFs, graphs and tables
play        sliders that change an image at once, and a quiz
diagrams    the game of the two networks and each network, as drawings
callbacks   what happens after each epoch
ablation    the improved recipe without each of its parts, and three failures

Here is what all of them share: paths, files that are written whole or not at all, and lines that tell how far long work
has come.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from IPython import get_ipython
from IPython.display import display

# Several notebooks may be open at once: none of them should take all of a GPU's memory.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# Other projects may need another backend, by this variable or in ~/.keras/keras.json, which has less to say.
if "keras" in sys.modules and (backend := sys.modules["keras"].config.backend()) != "tensorflow":
    raise ImportError(
        f"gan_utils trains with TensorFlow, but Keras was imported with {backend}. Set the environment variable "
        "KERAS_BACKEND to tensorflow, or import gan_utils before keras; then start Python or the kernel again."
    )
os.environ["KERAS_BACKEND"] = "tensorflow"

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
SECONDS_TO_REPLACE = 2.0  # how long another program may hold a file open before it is said


class DataError(ValueError):
    """A file or folder cannot be used; the text names it and says what to do."""


class FileInUse(OSError):
    """A file cannot be replaced because another program holds it open, which only Windows forbids."""


def describe_setup():
    """One line with the versions and the device, for the top of a notebook; imports TensorFlow without its log."""
    with errors_only():
        from gan_utils.fast import describe_device

        device = describe_device()
    return f"TensorFlow {version('tensorflow')}, Keras {version('keras')}, on {device}"


@contextmanager
def errors_only():
    """Hold back what libraries write past Python into file descriptor 2, and show it where an error is raised."""
    shown = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(shown, log.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def project_path(path):
    """An absolute path: relative ones start at the project's top folder, wherever the notebook runs."""
    try:
        return PROJECT_FOLDER / Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{path}: there is no user of this name here. Correct the path; ~/ is your own home."
        ) from error


def short_path(path):
    """A path as text: from the top folder where it is inside, so that `project_path` finds it again."""
    return str(path.relative_to(PROJECT_FOLDER) if path.is_relative_to(PROJECT_FOLDER) else path)


@contextmanager
def atomic_write(path):
    """A path to write to, which replaces `path` once all is written: a killed process leaves no half file.

    Example:
        >>> with atomic_write(folder / "generator.keras") as unfinished:
        ...     save_network(generator, unfinished)
    """
    unfinished = path.with_name(f"unfinished_{path.name}")  # keeps the suffix, which tells savers the format
    try:
        yield unfinished
        replace(path, unfinished)
    except FileInUse:
        raise
    except OSError as error:
        cause = error.strerror or error
        raise OSError(f"{path} cannot be written ({cause}). Make room, or choose another output folder.") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        unfinished.unlink(missing_ok=True)


def replace(path, new):
    """Rename `new` to `path`; on Windows that has to wait while another program has one of them open."""
    start = time.monotonic()
    while True:
        try:
            return new.replace(path)
        except PermissionError as error:
            if time.monotonic() - start > SECONDS_TO_REPLACE:
                raise FileInUse(f"{short_path(path)} cannot be replaced. Close it in all other programs.") from error
            time.sleep(0.1)


@contextmanager
def go_on():
    """Say which file another program holds open, and let training go on; the body is to try again an epoch later."""
    try:
        yield
    except FileInUse as error:
        UpdatingLine().show(f"{error} Training goes on, and tries again after the next epoch.", last=True)


@contextmanager
def write_rows(table):
    """`atomic_write` in training: while a spreadsheet has the table open, its newest rows stay beside it."""
    with go_on():
        with atomic_write(new_rows(table)) as unfinished:
            yield unfinished
        replace(table, new_rows(table))


def newest(table):
    """Where `write_rows` left the newest rows: in the table itself, unless another program had it open."""
    return new_rows(table) if new_rows(table).exists() else table


def new_rows(table):
    return table.with_stem(f"{table.stem}_new")


def read_json(path):
    """The content of a JSON file, or `DataError` where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{short_path(path)} is broken ({error}). Rename its folder, and start anew.") from error


def write_json(path, content):
    """Write a JSON file atomically; what is infinite or not a number is null there, with its reason beside it."""
    with atomic_write(path) as unfinished:
        text = json.dumps(without_nan(content), indent=2, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def without_nan(content):
    """A copy that strict JSON can hold; after each NaN or infinity in a dict, `name_reason` says what it was."""
    if isinstance(content, dict):
        found = {}
        for name, value in content.items():
            found[name] = without_nan(value)
            if found[name] is None and value is not None:
                found.setdefault(f"{name}_reason", f"it came out as {value}")
        return found
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


class Text(str):  # which notebooks show without quotation marks
    __repr__ = str.__str__


class UpdatingLine:
    """A line of text that each new one overwrites, in a notebook as in a terminal."""

    seconds_between_updates = 1.0

    def __init__(self):
        self.display = None
        self.last_shown = 0.0

    def is_due(self):
        """Whether the line may be overwritten already: work of thousands of steps would only flicker."""
        return time.monotonic() - self.last_shown >= self.seconds_between_updates

    def show(self, text, last=False):
        self.last_shown = time.monotonic()
        if not get_ipython():
            print(f"\r{text:<100}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            # The metadata tell scripts.run_notebooks, which has the terminal, what to leave there.
            self.display = show_in_place(self.display, Text(text), metadata={"last": last})


class ProgressLine:
    """Progress through a known number of pieces, as a with block: 'Loading train: 120 of 300, 4 s left'."""

    def __init__(self, label):
        self.label = label
        self.line = UpdatingLine()
        self.done = 0

    def __enter__(self):
        self.start = time.monotonic()
        self.line.show(f"{self.label} ...")
        return self

    def update(self, done, total):
        self.done = done
        if self.line.is_due():
            self.line.show(f"{self.label}: {done} of {total}, {time_left(self.start, done, total)} left")

    def __exit__(self, error_type, error, traceback):
        how = "stopped after" if error_type else "in"
        self.line.show(f"{self.label}: {self.done} {how} {duration(time.monotonic() - self.start)}", last=True)


def show_in_place(handle, thing, **options):
    """Display a thing, or replace what `handle` displays; returns the handle."""
    if handle is None:
        return display(thing, display_id=True, **options)
    handle.update(thing, **options)
    return handle


def counted(number, noun):
    """'1 epoch', '2 epochs', '1,000 images'."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def time_left(start, done, total):
    """How long the rest takes at the pace since `start` (a `time.monotonic()`), in words."""
    return duration((time.monotonic() - start) / max(done, 1) * (total - done))


def duration(seconds):
    """Seconds as a person says them: '45 s', '12 min 5 s', '3 h 20 min'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
