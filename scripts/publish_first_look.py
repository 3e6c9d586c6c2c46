"""Refresh the outputs of notebook 0, and, where a run on brain phantoms is named, what it ships with.

python -m scripts.publish_first_look [brain-improved-full-phantoms]
"""

import itertools
import shutil
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__" and (len(sys.argv) > 2 or "--help".startswith(sys.argv[-1])):
    print(__doc__)  # before TensorFlow is imported, so that it comes at once
    sys.exit(len(sys.argv) > 2)

import imageio.v3 as imageio
import nbformat
import numpy as np

from gan_utils import PROJECT_FOLDER, read_json
from prepare.brain_phantom import simulate_brain
from scripts.publish_run import lighten
from scripts.run_notebooks import run_notebook

NOTEBOOK = PROJECT_FOLDER / "notebooks" / "00_first_look.ipynb"
FOLDER = NOTEBOOK.with_name("first_look")
SUBJECTS, LEVELS = 4, 8  # rows and columns of the sheet


def main(name=None):
    if name:
        ship(name)
    nbformat.write(executed(NOTEBOOK), NOTEBOOK)


def ship(name):
    """Put the generator of a run, its record and phantoms that it never saw into notebooks/first_look."""
    run_folder = PROJECT_FOLDER / "epoch_images" / name
    notes = read_json(run_folder / "run.json")
    if not notes["data"]["simulated"]:
        sys.exit(f"{name} was trained on real scans: not published")
    FOLDER.mkdir(exist_ok=True)
    for file in ("generator.keras", "run.json"):
        shutil.copy2(run_folder / file, FOLDER)
    imageio.imwrite(FOLDER / "phantoms.png", phantom_sheet(*held_out(notes)))


def held_out(notes):
    """The last subjects that the run of these notes never trained on, and its image size."""
    subjects = sorted(itertools.chain(*notes["data"]["held_out"].values()))
    return subjects[-SUBJECTS:], notes["settings"]["image_size"]


def phantom_sheet(subjects, image_size):
    """Digital phantoms, a row each, from low in the head (left) to high: uint8 (height, width), 0..255."""
    rows = []
    for subject in subjects:
        slices = list(simulate_brain(subject, image_size))
        step = len(slices) // LEVELS
        rows.append(np.concatenate(slices[step // 2 :: step][:LEVELS], axis=1))
    return np.concatenate(rows)


def executed(path):
    """The notebook with its outputs, of which widgets leave the picture that they start with."""
    with tempfile.TemporaryDirectory() as folder:
        run_notebook(path, Path(folder))
        notebook = nbformat.read(Path(folder, path.name), as_version=4)
        lighten(notebook, Path(folder), "")
    notebook.metadata.pop("widgets", None)
    return notebook


if __name__ == "__main__":
    main(*sys.argv[1:])
