"""What is said at the end of cutting: what was cut and what was not, and a preview to look at."""

import re
import shlex
import sys
from collections import Counter

import numpy as np

from gan_utils import counted, errors_only, short_path, slices
from prepare.rows import SPLITS, random_key
from prepare.slice_files import is_cut, slice_paths
from prepare.subjects import listed

PREVIEW_SUBJECTS = 16
NAMED_FAILURES = 10  # the others are counted


def report(job, rows, to, failures, everyone):
    """Print what was cut and what was not, and what to do next."""
    done = [row for row in rows if is_cut(job, row)]
    subjects = {row.subject: row for row in done}
    splits = Counter(row.split for row in subjects.values())
    shares = f" ({', '.join(f'{splits[split]} {split}' for split in SPLITS)})" if job.experiment == "brain" else ""
    print(
        f"{short_path(job.folder)} holds {counted(len(done), job.noun)} of {counted(len(subjects), 'subject')}{shares}."
    )
    if failures:
        more = len(failures) - NAMED_FAILURES
        reasons = [*list(failures.values())[:NAMED_FAILURES], *([f"... and {more} more"] if more > 0 else [])]
        print(f"\n{job.noun.title()}s that could not be cut: {len(failures)}", *reasons, sep="\n  ", file=sys.stderr)
    if missing := sorted(everyone - subjects.keys()):
        print(f"Missing (no usable {job.noun}): {listed(missing)}.", file=sys.stderr)
    if len(subjects) < 3:
        print("Fewer than three subjects were cut: there is nothing to train on yet.", file=sys.stderr)
        return
    preview = write_preview(job, done, to / f"preview_{job.experiment}.png")
    choice = " EXPERIMENT=knee" if job.experiment == "knee" else ""
    print(f"Look at {short_path(preview)} first. Then: make run DATA={shlex.quote(short_path(to))}{choice}")


def sample(rows, number):
    """Some of the rows, as many as may be of each kind of path, then of each subject."""
    kinds, subjects, order = Counter(), Counter(), []
    for row in sorted(rows, key=lambda row: random_key(row.volume)):
        kind = re.sub(r"\d+", "", row.volume.replace(row.subject, ""))  # folders, contrasts, endings
        order.append((kinds[kind], subjects[row.subject], len(order), row))
        kinds[kind] += 1
        subjects[row.subject] += 1
    return [row for *_, row in sorted(order)[:number]]


def write_preview(job, rows, path):
    """Write the middle slice of up to 16 volumes of different kinds, each under the subject's number and its name."""
    import matplotlib.pyplot as plt  # here: a folder that cannot be cut is refused without waiting for it

    with errors_only():
        from gan_utils.plots import saved, show_images

    rows = sorted(sample(rows, PREVIEW_SUBJECTS), key=lambda row: (row.number, row.first))
    pictures = [np.asarray(slices.open_image(slice_paths(job, row)[job.slices // 2])) for row in rows]
    who = "case" if job.experiment == "brain" else "OAI"
    titles = [f"{who} {row.number}\n{row.volume[-28:]}".replace("$", r"\$") for row in rows]  # no mathematics
    plt.close(saved(show_images(pictures, titles, columns=4, size=2), path))
    return path
