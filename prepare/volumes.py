"""Cut a folder of volumes (NIfTI, Analyze, MGZ) into the PNG slices of a published layout, split by subject.

A second call continues where the first was stopped, and cuts what was added to the folder since. Which number each
subject has, and which split they are in, is kept in people.csv beside the slices.
"""

import re
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gan_utils import DataError, ProgressLine, counted
from gan_utils.settings import check_choice
from prepare import check_writable
from prepare.cut_report import report
from prepare.cutting import CUTS, cut_volume
from prepare.names import contrast_of
from prepare.pictures import read_picture
from prepare.rows import check_rows, new_row, number_subjects, random_key, read_table, write_table
from prepare.slice_files import Job, check_same_file, find_folder, is_cut, make_folders, slice_paths, write_slices
from prepare.subjects import CHOICES, listed, report_subjects, tell_subjects
from prepare.volume_paths import FIRST_CONTRASTS, find_volumes, is_picture


def cut_folder(source, experiment, to, subjects=None, suffix=None):
    """Cut all volumes below a folder that are not cut yet, write a preview, and say what was done and left out.

    Args:
        source: `pathlib.Path` of the folder with the volumes; without any, its PNG pictures are taken.
        experiment: "brain" or "knee".
        to: folder that gets keras_png_slices_data/ or AKOA_Analysis/, and the preview.
        subjects: "folder", "name" or "each-file" says whose a volume is where paths leave it open.
        suffix: the contrast to cut, such as "FLAIR", or what names end in; None: T1 or DESS where there are several.

    Returns:
        {volume: why it could not be cut}.

    Raises:
        DataError: no volumes, subjects that cannot be told or fewer than three, slices in the way that were not made
            here, or another call at work.
        OSError: the disk is full, or the folder may not be written to.
    """
    check_choice("experiment", experiment, CUTS)
    if subjects:
        check_choice("SUBJECTS", subjects, CHOICES)
    check_writable(to, "TO")
    volumes, left_out = find_volumes(source, experiment, suffix)
    for why, paths in left_out.items():
        print(f"Left out: {why}: {listed(paths)}.")
    job = make_job(source, volumes, experiment, to, subjects)
    plan(job)  # refuses before anything is written
    failures = {}
    with only_call(to, experiment), ProgressLine(f"Cutting {job.noun}s") as progress:
        rows, numbers = plan(job)  # anew: another call may have ended just now
        known = {row.volume: row for row in rows if row.source == str(source.resolve())}
        make_folders(job, rows)
        # The order of subjects follows from their names alone and says nothing of them. A split is chosen once a volume
        # was cut, so that none is empty because its only subject could not be read.
        for done, volume in enumerate(sorted(volumes, key=lambda volume: in_order(job, volume)), start=1):
            row, subject = known.get(volume), job.subjects[volume]
            try:
                if row:
                    check_same_file(job, row)
                if not row or not is_cut(job, row):
                    row = row or new_row(
                        source, volume, subject, numbers[subject], rows, len(numbers), experiment, job.slices
                    )
                    pictures = read(job, volume)
                    if volume not in known:  # noted first: whatever happens next, its slices are this subject's
                        rows.append(row)
                        write_table(job.folder, rows)
                    write_slices(pictures, slice_paths(job, row))
            except DataError as error:
                failures[volume] = str(error)
            progress.update(done, len(volumes))
    report(job, rows, to, failures, numbers.keys())
    return failures


def make_job(source, volumes, experiment, to, choice):
    """The `Job` of some volumes, or pictures, after saying whose they are."""
    width, height, number = CUTS[experiment].shape
    if experiment == "brain":
        height, width = width, height
    pictures = is_picture(volumes[0])
    noun = "picture" if pictures else "volume"
    subjects, rules = tell_subjects(volumes, choice, pictures)
    named = {subjects[volume] for volume in volumes if contrast_of(volume)}
    if unnamed := [volume for volume in volumes if subjects[volume] in named and not contrast_of(volume)]:
        usual = FIRST_CONTRASTS[experiment][0]
        print(
            f"Taken along with named contrasts of the same subjects: {listed(unnamed)}. SUFFIX={usual} leaves them out."
        )
    report_subjects(rules, noun)
    folder = find_folder(to, experiment, noun)
    if pictures:
        return Job(source, subjects, experiment, folder, noun, 1, lambda path: read_picture(path, (width, height)))
    return Job(source, subjects, experiment, folder, noun, number, lambda path: cut_volume(path, experiment))


def plan(job):
    """The rows of earlier calls, and {subject: number} of theirs and of this call's.

    Raises:
        DataError: as `cut_folder`.
    """
    rows = check_rows(read_table(job.folder), job.source, job.subjects, job.folder)
    usual = FIRST_CONTRASTS[job.experiment][0]  # of names that tell none
    earlier = {contrast_of(row.volume) or usual for row in rows}
    now = {contrast_of(volume) or usual for volume in job.subjects}
    if earlier - now:
        raise DataError(
            f"{job.folder} holds slices of {', '.join(sorted(earlier))}, and {job.source} would add "
            f"{', '.join(sorted(now))}. Cut each contrast into a folder of its own (TO)."
        )
    everyone = {*job.subjects.values(), *(row.subject for row in rows)}
    if len(everyone) < 3:
        people = counted(len(everyone), "subject")
        raise DataError(
            f"{job.source} holds {job.noun}s of {people} ({', '.join(sorted(everyone))}). At least "
            "three are needed, one each to train, validate and test. If there are more, say what tells them: "
            f"SUBJECTS={'|'.join(CHOICES)}."
        )
    return rows, number_subjects(everyone, rows, job.experiment)


@contextmanager
def only_call(to, experiment):
    """Refuse a second call that cuts into the same folder at the same time."""
    to.mkdir(parents=True, exist_ok=True)
    lock = FileLock(to / f".{experiment}_slices.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"Another `make slices` is writing to {to}. Wait for its end, or choose another TO.") from error
    try:
        yield
    finally:
        with suppress(PermissionError):  # Windows keeps it while it is held
            Path(lock.lock_file).unlink(missing_ok=True)  # another call makes its own
        lock.release()


def in_order(job, volume):
    """What to sort volumes by: a random order of subjects, and p01_2 before p01_10."""
    return random_key(job.subjects[volume]), [part.zfill(20) for part in re.split(r"(\d+)", volume)]


def read(job, volume):
    """The slices of a volume; whatever is wrong with it becomes a `DataError`, so that the others are still cut."""
    try:
        return job.read(job.source / volume)
    except DataError:
        raise
    except Exception as error:  # headers that lie lead to nearly any, MemoryError included
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{job.source / volume} cannot be cut ({cause}). Look at it, and leave it out.") from error
