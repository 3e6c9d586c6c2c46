"""Cut a folder of volumes (NIfTI, Analyze) into the PNG slices of a published layout, split by person.

python -m gan_utils.volumes FOLDER [--experiment brain|knee] [--to data]

A second call goes on where the first was stopped, and cuts what was added to the folder since. Who became which number,
and which split they are in, is kept in people.csv beside the slices. paths.py reads the paths, cutting.py
cuts one volume.
"""

import argparse
import csv
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from gan_utils.figures import saved, show_images
from gan_utils.layouts import (
    AKOA_FOLDER,
    OASIS_FOLDER,
    OASIS_SPLITS,
    DataError,
    find_akoa_folder,
    find_oasis_folder,
)
from gan_utils.png_slices import opened_image
from gan_utils.progress import ProgressLine
from gan_utils.runs import written_beside
from gan_utils.settings import check_choice, project_path, short_path
from gan_utils.volumes.cutting import CUTS, cut_volume
from gan_utils.volumes.paths import Row, chance, find_volumes, new_row, number_people, person_of, size_of

PEOPLE = "people.csv"
UNFINISHED = ".unfinished_"  # a hidden folder, which the loader passes over
PREVIEW_PEOPLE = 16
NAMED = 3  # files that a message names; the others are counted


class Kind(NamedTuple):
    """What differs between brains and knees."""

    folder: str  # the published folder
    find_folder: Callable  # folder -> the one below it that holds the slices, or None
    ending: str  # of a slice


KINDS = {
    "brain": Kind(OASIS_FOLDER, find_oasis_folder, ".nii.png"),
    "knee": Kind(AKOA_FOLDER, find_akoa_folder, ".png"),
}


def main():
    parser = argparse.ArgumentParser(prog="python -m gan_utils.volumes", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where the volumes are, in folders of any depth")
    parser.add_argument("--experiment", default=os.environ.get("GAN_EXPERIMENT") or "brain", help="brain or knee")
    parser.add_argument("--to", default="data", help="where the slices go; default: data")
    arguments = parser.parse_args()
    try:
        failures = cut_folder(project_path(arguments.folder), arguments.experiment, project_path(arguments.to))
    except (ValueError, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot cut slices: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command goes on with the volume it was at.")
    sys.exit(1 if failures else 0)


def cut_folder(source, experiment, to):
    """Cut all volumes below a folder that are not cut yet, write a preview, and say what was done and left out.

    Args:
        source: `pathlib.Path` of the folder with the volumes.
        experiment: "brain" or "knee".
        to: folder that gets keras_png_slices_data/ or AKOA_Analysis/, and the preview.

    Returns:
        {volume: why it could not be cut}.

    Raises:
        DataError: no volumes, fewer than three people, or slices in the way that were not made here.
        OSError: the disk is full, or the folder may not be written to.
    """
    check_choice("experiment", experiment, CUTS)
    volumes, left_out = find_volumes(source)
    for why, paths in left_out.items():
        print(f"Left out: {why}: {listed(paths)}.")
    folder = find_folder(to, experiment)
    rows = read_people(folder)
    people = {volume: person_of(volume, experiment) for volume in volumes}
    everyone = {*people.values(), *(row.person for row in rows)}
    if len(everyone) < 3:
        raise DataError(
            f"{source} holds volumes of {len(everyone)} people ({', '.join(sorted(everyone))}); at least three are "
            "needed, one each to train, validate and test. A person is told by OAS1_0001, OAI9014797 or sub-01 in the "
            "path, else by the first folder below this one, else by the name of the file."
        )
    numbers = number_people(everyone, rows, experiment)
    known = {row.volume: row for row in rows}
    make_folders(folder, rows, experiment)
    failures = {}
    with ProgressLine("Cutting volumes") as progress:
        # People come in an order that follows from their names alone and says nothing of them. A split is chosen once a
        # volume was cut, so that none is empty because its only person could not be read.
        for done, volume in enumerate(sorted(volumes, key=lambda volume: (chance(people[volume]), volume)), start=1):
            row, person = known.get(volume), people[volume]
            try:
                if row:
                    check_same_file(source, row, folder)
                if not row or not is_cut(folder, row, experiment):
                    row = row or new_row(source, volume, person, numbers[person], rows, len(everyone), experiment)
                    slices = cut_volume(source / volume, experiment)
                    if volume not in known:  # noted first: whatever happens next, its slices are those of this person
                        rows.append(row)
                        write_people(folder, rows)
                    write_slices(slices, slice_paths(folder, row, experiment))
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
    kind = KINDS[experiment]
    folder = kind.find_folder(to) or to / kind.folder
    if not (folder / PEOPLE).exists() and next(folder.rglob("*.png"), None):
        raise DataError(
            f"{folder} holds slices already, and no {PEOPLE} says whose they are. Move them elsewhere, or choose "
            "another folder (TO): one person must not get into two splits."
        )
    return folder


def make_folders(folder, rows, experiment):
    folder.mkdir(parents=True, exist_ok=True)
    write_people(folder, rows)  # before any slice: the next call will know the folder again
    for split in OASIS_SPLITS.values() if experiment == "brain" else ():
        (folder / split).mkdir(exist_ok=True)
    for leftover in folder.rglob(f"{UNFINISHED}*"):  # of a call that was killed
        shutil.rmtree(leftover)


def read_people(folder):
    """The `Row`s of people.csv; none where there is no such file yet.

    Raises:
        DataError: the file was edited so that it cannot be read, or copied in part.
    """
    path = folder / PEOPLE
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        rows = [Row(*line)._replace(bytes=int(line[1]), number=int(line[3]), first=int(line[6])) for line in lines]
        if tuple(header) != Row._fields or {row.split for row in rows} - {"", *OASIS_SPLITS}:
            raise ValueError(
                f"its columns are not {', '.join(Row._fields)}, or a split is not {', '.join(OASIS_SPLITS)}"
            )
        return rows
    except (ValueError, TypeError, IndexError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}). Put back the file as it was, or delete the folder to cut all anew."
        ) from error


def write_people(folder, rows):
    with written_beside(folder / PEOPLE) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([Row._fields, *rows])


def check_same_file(source, row, folder):
    """Raise DataError where the volume of a `Row` has another size than when it was cut."""
    path = source / row.volume
    if row.bytes != size_of(path):
        raise DataError(
            f"{path} is another file than the one of this name in {short_path(folder / PEOPLE)}. Cut other people into "
            f"another folder (TO). If the same volume was corrected, write {size_of(path)} as its bytes there, and "
            f"delete its slices ({row.name}{row.first}...)."
        )


def is_cut(folder, row, experiment):
    """Whether all slices of a volume are there."""
    return all(path.exists() for path in slice_paths(folder, row, experiment))


def slice_paths(folder, row, experiment):
    """Where the slices of a volume lie, in the order of `cut_volume`."""
    place = folder / OASIS_SPLITS[row.split] if row.split else folder
    numbers = range(row.first, row.first + CUTS[experiment].shape[2])
    return [place / f"{row.name}{number}{KINDS[experiment].ending}" for number in numbers]


def write_slices(slices, paths):
    """Write pictures as 8-bit grey PNG; those that are not all there yet lie in a hidden folder."""
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=paths[0].parent) as unfinished:
        beside = [Path(unfinished) / path.name for path in paths]
        for picture, path in zip(slices, beside, strict=True):
            Image.fromarray(picture).save(path)
        for path, place in zip(beside, paths, strict=True):
            path.replace(place)


# ---- What is said at the end -------------------------------------------------------------------------------


def report(folder, rows, experiment, to, failures, everyone):
    """Print what was cut and what was not, and how to go on."""
    done = [row for row in rows if is_cut(folder, row, experiment)]
    people = {row.person: row for row in done}
    splits = Counter(row.split for row in people.values())
    shares = f" ({', '.join(f'{splits[split]} {split}' for split in OASIS_SPLITS)})" if experiment == "brain" else ""
    print(f"{short_path(folder)} holds {len(done)} volumes of {len(people)} people{shares}.")
    if failures:
        print(f"\nVolumes that could not be cut: {len(failures)}", *failures.values(), sep="\n  ", file=sys.stderr)
    if missing := sorted(everyone - people.keys()):
        print(f"Not there, because none of their volumes could be cut: {listed(missing)}.", file=sys.stderr)
    if len(people) < 3:
        print("Fewer than three people were cut: there is nothing to train on yet.", file=sys.stderr)
        return
    preview = write_preview(folder, people.values(), experiment, to / f"preview_{experiment}.png")
    choice = " EXPERIMENT=knee" if experiment == "knee" else ""
    print(f"Look at {short_path(preview)} first. Then: make run DATA={short_path(to)}{choice}")


def write_preview(folder, rows, experiment, path):
    """Write the middle slice of up to 16 people, each under the number of the person."""
    rows = sorted(rows, key=lambda row: row.number)[:PREVIEW_PEOPLE]
    middle = CUTS[experiment].shape[2] // 2
    pictures = [np.asarray(opened_image(slice_paths(folder, row, experiment)[middle])) for row in rows]
    titles = [f"{'case' if experiment == 'brain' else 'OAI'} {row.number}" for row in rows]
    plt.close(saved(show_images(pictures, titles, columns=4, size=2), path))
    return path


def listed(names):
    """Some names, and how many there are in all."""
    names = [str(name) for name in names]
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)} in all)" if len(names) > NAMED else "")


if __name__ == "__main__":
    main()
