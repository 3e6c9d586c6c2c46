"""What comes before training: importing the package, and making the simulated people."""

import itertools
import subprocess
import sys
from pathlib import Path

PEOPLE, SIZE = 60, 128


def importing(package):
    """A fresh Python that imports a package."""
    command = [sys.executable, "-c", f"import {package}"]
    return lambda: subprocess.run(command, check=True, capture_output=True), {}


def simulating(folder):
    """Sixty brains at 128 pixels, made anew in each round."""
    from gan_utils.simulation.brains import write_simulated_brains

    sets = (Path(folder) / f"set {number}" for number in itertools.count())
    return lambda: write_simulated_brains(next(sets), SIZE, PEOPLE), {"people": PEOPLE}


def using_again(folder):
    """The same brains, read from disk as notebooks do."""
    from gan_utils.datasets import load_slices
    from gan_utils.settings import choose_settings
    from gan_utils.simulation.brains import write_simulated_brains

    made = Path(folder) / "used again"
    write_simulated_brains(made, SIZE, PEOPLE)
    settings = choose_settings("brain", "full", image_size=SIZE, generator_input_dim=16, data=made)
    return lambda: load_slices(settings), {"people": PEOPLE}
