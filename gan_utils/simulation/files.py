"""How simulated sets are written: all or nothing, two pictures at a time, with a note saying what they are.

Used by brains.py and knees.py.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from gan_utils.devices import count_usable_cores

SIMULATED_MARK = "SIMULATED.txt"  # lies in every simulated set, so that it is never taken for real scans


@contextmanager
def new_set(folder: Path, name: str, text: str) -> Iterator[Path]:
    """Make `folder` with the pictures that the body of the with statement writes.

    The body writes to a folder beside `folder` that is renamed at the end, so an interruption leaves
    nothing. Used in write_simulated_brains and write_drawn_knees.

    Args:
        folder: Folder to make; it must not exist. Missing parents are made.
        name: The one folder inside it, which holds the pictures and the note SIMULATED.txt.
        text: What the note says.

    Yields:
        The folder to write pictures to; it is folder/name once the body has ended.

    Raises:
        FileExistsError: `folder` exists, most often from an earlier run.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; use it, or delete it to have it made anew")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}_unfinished_", dir=folder.parent))
    try:
        (unfinished / name).mkdir()
        yield unfinished / name
        (unfinished / name / SIMULATED_MARK).write_text(text)
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def run_all(jobs: Sequence[Callable[[], object]], progress: Callable[[int, int], object] | None) -> None:
    """Run all jobs, two at a time, and call progress(done, total) after each of them."""
    with ThreadPoolExecutor(min(2, count_usable_cores())) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(jobs))
        except BaseException:  # Ctrl-C too: jobs not yet begun need not be done
            pool.shutdown(cancel_futures=True)
            raise
