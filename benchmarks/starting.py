"""What comes before training: importing the package, and making the digital phantoms."""

import itertools
import subprocess
import sys
from pathlib import Path

SUBJECTS, SIZE = 60, 128


def importing(package):
    """A fresh Python that imports a package."""
    command = [sys.executable, "-c", f"import {package}"]
    return lambda: subprocess.run(command, check=True, capture_output=True), {}


def making_phantoms(folder):
    """Sixty brains at 128 pixels, made anew in each round."""
    from prepare.brain_phantom import write_brain_phantoms

    sets = (Path(folder) / f"set {number}" for number in itertools.count())
    return lambda: write_brain_phantoms(next(sets), SIZE, SUBJECTS), {"subjects": SUBJECTS}


def loading_phantoms(folder):
    """The same brains, loaded as notebooks do."""
    from gan_utils.data import load
    from gan_utils.settings import choose_settings
    from prepare.brain_phantom import write_brain_phantoms

    made = Path(folder) / "loaded"
    write_brain_phantoms(made, SIZE, SUBJECTS)
    settings = choose_settings("brain", "full", image_size=SIZE, generator_input_dim=16, data=made)
    return lambda: load(settings), {"subjects": SUBJECTS}
