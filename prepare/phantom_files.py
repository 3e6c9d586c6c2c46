"""How a set of phantoms is written: all or nothing, two subjects at a time, with a note that says what it is."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from gan_utils.data import PHANTOM_MARK

THREADS = 2  # each holds volumes of its own: more of them would need more memory


@contextmanager
def new_set(folder, name, text):
    """Make `folder` with `name` in it, to which the body of the with statement writes; an error leaves nothing.

    Until the body has ended all is in a folder beside `folder`, which is then renamed.

    Args:
        folder: `pathlib.Path`; it must not exist. Missing parents are made.
        name: of the one folder in it, for the pictures and their mark, SIMULATED.txt.
        text: of the mark.

    Yields:
        The folder to write pictures to.

    Raises:
        FileExistsError: `folder` exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; use it, or delete it to have it made again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}_unfinished_", dir=folder.parent))
    try:
        (unfinished / name).mkdir()
        yield unfinished / name
        (unfinished / name / PHANTOM_MARK).write_text(text, encoding="utf-8")
        unfinished.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def run_all(jobs, progress=None):
    """Run functions without arguments in threads, and call progress(done, total) after each of them."""
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done, len(jobs))
        except BaseException:  # Ctrl-C too: jobs not yet begun need not be done
            pool.shutdown(cancel_futures=True)
            raise
