"""What make calls. No print ends a run: characters that a console lacks are written as their numbers."""

import sys

for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # what tests put in their place may not have it
        stream.reconfigure(errors="backslashreplace")
