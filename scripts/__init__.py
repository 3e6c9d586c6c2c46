"""What make calls. No print ends a run: characters that a console lacks are written as their numbers."""

import importlib
import os
import sys

from gan_utils import errors_only

for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # what tests put in their place may not have it
        stream.reconfigure(errors="backslashreplace")


def import_tensorflow():
    """Import TensorFlow for a command, without the log that it fills the terminal with."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # leaves the lines of the import itself
    with errors_only():
        importlib.import_module("tensorflow")
