"""Lines that say how far long work has come, updated in place: 'Loading train: 120 of 300, 4 s left'."""

import sys
import time

from IPython import get_ipython
from IPython.display import display


class Line:
    """Text that a notebook shows without quotation marks."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


class UpdatingLine:
    """A line of text that is overwritten by the next one, in a notebook as in a terminal."""

    def __init__(self, seconds_between_updates=1.0):
        self.seconds_between_updates = seconds_between_updates
        self.display = None
        self.last_shown = 0.0

    def is_due(self):
        """Whether the line is old enough to be overwritten; keeps callers from drawing thousands of times."""
        return time.monotonic() - self.last_shown >= self.seconds_between_updates

    def show(self, text, last=False):
        self.last_shown = time.monotonic()
        if not get_ipython():
            print(f"\r{text:<100}", end="\n" if last else "", file=sys.stderr, flush=True)
        elif self.display is None:
            self.display = display(Line(text), display_id=True)
        else:
            self.display.update(Line(text))


class UpdatingMessage:
    """Lines of text that give way to the next ones in a notebook; a terminal keeps them, and is told each line once."""

    def __init__(self, text):
        self.said = set()
        self.display = display(Line(text), display_id=True) if get_ipython() else None

    def show(self, text):
        new = "\n".join(line for line in text.splitlines() if line not in self.said)
        self.said.update(text.splitlines())
        if self.display:
            self.display.update(Line(text), metadata={"say": new})  # to `python -m gan_utils`, which has the terminal
        else:
            print(f"\n{new}", file=sys.stderr, flush=True)


class ProgressLine:
    """Progress through a known number of pieces.

    Example:
        >>> with ProgressLine("Loading") as progress:
        ...     for number in range(3):
        ...         progress.update(number + 1, 3)
    """

    def __init__(self, label):
        self.label = label
        self.line = UpdatingLine()
        self.done = 0

    def __enter__(self):
        self.start = time.monotonic()
        self.line.show(f"{self.label} ...")
        return self

    def update(self, done, total):
        """Say that `done` of `total` pieces are finished; may be called as often as you like."""
        self.done = done
        if self.line.is_due():
            left = time_left(self.start, done, total)
            self.line.show(f"{self.label}: {done} of {total}, {left} left")

    def __exit__(self, error_type, error, traceback):
        how = "stopped after" if error_type else "in"
        self.line.show(f"{self.label}: {self.done} {how} {duration(time.monotonic() - self.start)}", last=True)


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
