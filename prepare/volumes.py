"""Cut a folder of volumes (NIfTI, Analyze) into the PNG slices of a published layout, split by subject.

A second call continues where the first was stopped, and cuts what was added to the folder since. Which number each
subject has, and which split they are in, is kept in people.csv beside the slices.
"""

import csv
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from gan_utils import DataError, ProgressLine, atomic_write, check_writable, counted, short_path, slices
from gan_utils.data import DATASETS
from gan_utils.data import TABLE_OF_CUT_SLICES as TABLE
from gan_utils.settings import check_choice
from prepare.cutting import CUTS, cut_volume
from prepare.volume_paths import Row, find_volumes, new_row, number_subjects, random_key, size_of, subject_of

COLUMNS = "volume", "bytes", "person", "number", "split", "name", "first"  # of the table; older folders have it, too
SPLITS = tuple(DATASETS["brain"].split_folders)  # train, validate, test
UNFINISHED = ".unfinished_"  # a hidden folder, which the loader passes over
PREVIEW_SUBJECTS = 16
NAMED = 3  # files that a message names; the others are counted


def cut_folder(source, experiment, to):
    """Cut all volumes below a folder that are not cut yet, write a preview, and say what was done and left out.

    Args:
        source: `pathlib.Path` of the folder with the volumes.
        experiment: "brain" or "knee".
        to: folder that gets keras_png_slices_data/ or AKOA_Analysis/, and the preview.

    Returns:
        {volume: why it could not be cut}.

    Raises:
        DataError: no volumes, fewer than three subjects, or slices in the way that were not made here.
        OSError: the disk is full, or the folder may not be written to.
    """
    check_choice("experiment", experiment, CUTS)
    check_writable(to, "TO")
    volumes, left_out = find_volumes(source)
    for why, paths in left_out.items():
        print(f"Left out: {why}: {listed(paths)}.")
    folder = find_folder(to, experiment)
    rows = read_table(folder)
    subjects = {volume: subject_of(volume, experiment) for volume in volumes}
    everyone = {*subjects.values(), *(row.subject for row in rows)}
    if len(everyone) < 3:
        raise DataError(
            f"{source} holds volumes of {counted(len(everyone), 'subject')} ({', '.join(sorted(everyone))}); at least "
            "three are needed, one each to train, validate and test. A subject is told by OAS1_0001, OAI9014797 or "
            "sub-01 in the path, else by the first folder below this one, else by the name of the file."
        )
    numbers = number_subjects(everyone, rows, experiment)
    known = {row.volume: row for row in rows}
    make_folders(folder, rows, experiment)
    failures = {}
    with ProgressLine("Cutting volumes") as progress:
        # The order of subjects follows from their names alone and says nothing of them. A split is chosen once a volume
        # was cut, so that none is empty because its only subject could not be read.
        order = sorted(volumes, key=lambda volume: (random_key(subjects[volume]), volume))
        for done, volume in enumerate(order, start=1):
            row, subject = known.get(volume), subjects[volume]
            try:
                if row:
                    check_same_file(source, row, folder)
                if not row or not is_cut(folder, row, experiment):
                    row = row or new_row(source, volume, subject, numbers[subject], rows, len(everyone), experiment)
                    pictures = cut_volume(source / volume, experiment)
                    if volume not in known:  # noted first: whatever happens next, its slices are this subject's
                        rows.append(row)
                        write_table(folder, rows)
                    write_slices(pictures, slice_paths(folder, row, experiment))
            except DataError as error:
                failures[volume] = str(error)
            progress.update(done, len(volumes))
    report(folder, rows, experiment, to, failures, everyone)
    return failures


# ---- Files -------------------------------------------------------------------------------------------------


def find_folder(to, experiment):
    """The folder that gets the slices.

    Raises:
        DataError: it holds slices that were not made here.
    """
    dataset = DATASETS[experiment]
    folder = slices.find_folder(to, dataset) or to / dataset.folder
    if not (folder / TABLE).exists() and next(folder.rglob("*.png"), None):
        raise DataError(
            f"{folder} holds slices already, and no {TABLE} says whose they are. Move them elsewhere, or choose "
            "another folder (TO): one subject must not get into two splits."
        )
    return folder


def make_folders(folder, rows, experiment):
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder, rows)  # before any slice: the next call will know the folder again
    for name in (DATASETS[experiment].split_folders or {}).values():
        (folder / name).mkdir(exist_ok=True)
    for leftover in folder.rglob(f"{UNFINISHED}*"):  # of a call that was killed
        shutil.rmtree(leftover)


def read_table(folder):
    """The `Row`s of people.csv; none where there is no such file yet.

    Raises:
        DataError: the file was edited so that it cannot be read, or copied in part.
    """
    path = folder / TABLE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        rows = [Row(*line)._replace(bytes=int(line[1]), number=int(line[3]), first=int(line[6])) for line in lines]
        if tuple(header) != COLUMNS or {row.split for row in rows} - {"", *SPLITS}:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}, or a split is not {', '.join(SPLITS)}")
        return rows
    except (ValueError, TypeError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Restore the file, or delete the folder to cut all volumes again."
        ) from error


def write_table(folder, rows):
    with atomic_write(folder / TABLE) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def check_same_file(source, row, folder):
    """Refuse a volume that has another size than when it was cut."""
    path = source / row.volume
    if row.bytes != size_of(path):
        raise DataError(
            f"{path} is another file than the one of this name in {short_path(folder / TABLE)}. Cut other subjects "
            f"into another folder (TO). If the same volume was corrected, write {size_of(path)} as its bytes there, "
            f"and delete its slices ({row.name}{row.first}...)."
        )


def is_cut(folder, row, experiment):
    """Whether all slices of a volume are there."""
    return all(path.exists() for path in slice_paths(folder, row, experiment))


def slice_paths(folder, row, experiment):
    """Where the slices of a volume are or will be, in the order of `cut_volume`."""
    place = folder / DATASETS[experiment].split_folders[row.split] if row.split else folder
    cut = CUTS[experiment]
    return [place / f"{row.name}{number}{cut.ending}" for number in range(row.first, row.first + cut.shape[2])]


def write_slices(pictures, paths):
    """Write pictures as 8-bit grey PNG; until all are written they are in a hidden folder."""
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=paths[0].parent) as unfinished:
        hidden = [Path(unfinished) / path.name for path in paths]
        for picture, path in zip(pictures, hidden, strict=True):
            Image.fromarray(picture).save(path)
        for path, place in zip(hidden, paths, strict=True):
            path.replace(place)


# ---- What is said at the end -------------------------------------------------------------------------------


def report(folder, rows, experiment, to, failures, everyone):
    """Print what was cut and what was not, and what to do next."""
    done = [row for row in rows if is_cut(folder, row, experiment)]
    subjects = {row.subject: row for row in done}
    splits = Counter(row.split for row in subjects.values())
    shares = f" ({', '.join(f'{splits[split]} {split}' for split in SPLITS)})" if experiment == "brain" else ""
    print(f"{short_path(folder)} holds {counted(len(done), 'volume')} of {counted(len(subjects), 'subject')}{shares}.")
    if failures:
        print(f"\nVolumes that could not be cut: {len(failures)}", *failures.values(), sep="\n  ", file=sys.stderr)
    if missing := sorted(everyone - subjects.keys()):
        print(f"Missing (no usable volume): {listed(missing)}.", file=sys.stderr)
    if len(subjects) < 3:
        print("Fewer than three subjects were cut: there is nothing to train on yet.", file=sys.stderr)
        return
    preview = write_preview(folder, subjects.values(), experiment, to / f"preview_{experiment}.png")
    choice = " EXPERIMENT=knee" if experiment == "knee" else ""
    print(f"Look at {short_path(preview)} first. Then: make run DATA={short_path(to)}{choice}")


def write_preview(folder, rows, experiment, path):
    """Write the middle slice of up to 16 subjects, each under the subject's number."""
    import matplotlib.pyplot as plt  # here: a folder that cannot be cut is refused without waiting for it

    from gan_utils.plots import saved, show_images

    rows = sorted(rows, key=lambda row: row.number)[:PREVIEW_SUBJECTS]
    middle = CUTS[experiment].shape[2] // 2
    pictures = [np.asarray(slices.open_image(slice_paths(folder, row, experiment)[middle])) for row in rows]
    titles = [f"{'case' if experiment == 'brain' else 'OAI'} {row.number}" for row in rows]
    plt.close(saved(show_images(pictures, titles, columns=4, size=2), path))
    return path


def listed(names):
    """Some names, and how many there are in all."""
    names = [str(name) for name in names]
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)} in all)" if len(names) > NAMED else "")
