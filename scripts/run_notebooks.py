"""Run notebooks 1 to 5, or some of them, each in a kernel of its own, and keep them as executed with the run."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time

from scripts.command_line import COMMAND_LINE, make_parser, parsed_settings, start_over

parser = make_parser("scripts.run_notebooks", __doc__, trains=True)
parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="only these notebooks, such as 4 to evaluate")
if __name__ == "__main__":
    arguments = parser.parse_args()  # before nbclient is imported, so that --help answers at once

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from gan_utils import PROJECT_FOLDER, atomic_write, duration, short_path

# TensorFlow's own start-up messages, which no setting silences; they say nothing about the notebook.
TENSORFLOW_LOG = re.compile(
    r"(WARNING: All log messages before absl|[IW]\d{4} \d\d:\d\d:|To enable the following instructions)"
)
RESULTS = (
    "model_progress.gif",
    "loss_graph.png",
    "loss_plot.png",
    "judgement_graph.png",
    "ssim_graph.png",
    "example_output.png",
    "SSIM.txt",
    "results.json",
)
SECONDS_BETWEEN_LINES = 20  # where lines cannot be overwritten, as in a log file


class EchoingClient(NotebookClient):
    """Runs a notebook and echoes its updating lines (progress, time left, warnings) in the terminal."""

    last_echo = 0.0

    def process_message(self, message, cell, cell_index):
        content = message["content"]
        if message["msg_type"] in ("display_data", "update_display_data") and set(content["data"]) == {"text/plain"}:
            now = time.monotonic()
            if content["metadata"].get("last"):
                echo(content["data"]["text/plain"], end="\n")
            elif message["msg_type"] == "update_display_data" and (
                sys.stdout.isatty() or now - self.last_echo > SECONDS_BETWEEN_LINES
            ):
                self.last_echo = now
                echo(content["data"]["text/plain"])
        return super().process_message(message, cell, cell_index)


def echo(text, end=""):
    """Overwrite the current line of a terminal; write a line per call anywhere else."""
    if sys.stdout.isatty():
        # A line that wraps cannot be overwritten.
        fitting = text if end else text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{fitting}", end=end, flush=True)
    else:
        print(text, flush=True)


def run_notebook(path, folder):
    """Execute the notebook at `path` and write it with its outputs into `folder`, also when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = EchoingClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its only warning is about networks
    )
    start = time.monotonic()
    try:
        client.execute(stderr=subprocess.DEVNULL)  # the notebook keeps what the kernel says there
    except AssertionError as error:  # what nbclient makes of Ctrl-C, once it has ended the kernel
        raise DeadKernelError(f"{path.name} was interrupted") from error
    finally:
        drop_tensorflow_log(notebook)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / path.name) as unfinished:
            nbformat.write(notebook, unfinished)
    echo(f"{path.name}: {duration(time.monotonic() - start)}", end="\n")


def drop_tensorflow_log(notebook):
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)  # time stamps, which only make differences noisy
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_tensorflow_log(output)]


def is_tensorflow_log(output):
    lines = output.get("text", "").splitlines()
    return output.get("name") == "stderr" and all(TENSORFLOW_LOG.match(line) or not line.strip() for line in lines)


def main(arguments):
    try:
        settings = parsed_settings(arguments)
    except ValueError as error:
        sys.exit(f"Cannot start: {error}")
    notebooks = sorted((PROJECT_FOLDER / "notebooks").glob("0[1-9]*.ipynb"))
    if not notebooks:
        sys.exit(f"Cannot start: no notebooks in {PROJECT_FOLDER / 'notebooks'}. Get the whole project by git clone.")
    there = {int(path.name[:2]): path for path in notebooks}
    if missing := sorted({*(arguments.only or [])} - there.keys()):
        sys.exit(f"Cannot start: there is no notebook {missing[0]}; choose from {', '.join(map(str, there))}")
    notebooks = {number: path for number, path in there.items() if number in (arguments.only or there)}
    try:
        trained = {recipe for number, recipe in ((3, settings.recipe), (5, "improved")) if number in notebooks}
        for recipe in trained if arguments.start_over else ():
            start_over(dataclasses.replace(settings, recipe=recipe))
    except (ValueError, OSError) as error:
        sys.exit(f"Cannot start: {error}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's C++ messages would fill the terminal
    # The notebooks read their defaults from here.
    os.environ.update({f"GAN_{name.upper()}": getattr(arguments, name) for name in COMMAND_LINE})
    # Notebook 3 may archive the run's folder, so the executed notebooks are elsewhere until all of them are done.
    folder, unfinished = settings.run_folder, settings.run_folder.with_name(f"{settings.run_name}-unfinished-notebooks")
    start = time.monotonic()
    for path in notebooks.values():
        echo(f"{path.name} ...")
        try:
            run_notebook(path, unfinished)
        except CellExecutionError as error:
            echo("", end="\n")
            sys.exit(f"{path.name} stopped, see {short_path(unfinished)}:\n{error.ename}: {error.evalue}")
        except DeadKernelError:
            echo("", end="\n")
            sys.exit(
                f"{path.name} was ended: by you, or by the system because memory ran out. The same command "
                f"{'without START_OVER ' * arguments.start_over}continues after the last whole epoch."
            )
    folder.mkdir(parents=True, exist_ok=True)  # nothing is in it yet where notebook 3 is missing
    executed = folder / "notebooks"
    if not arguments.only:
        shutil.rmtree(executed, ignore_errors=True)
    executed.mkdir(exist_ok=True)
    for path in notebooks.values():
        (unfinished / path.name).replace(executed / path.name)
    shutil.rmtree(unfinished)
    echo(f"Done in {duration(time.monotonic() - start)}. Results are in {short_path(folder)}:", end="\n")
    for path in (folder / name for name in RESULTS):
        if path.exists():
            echo(f"  {short_path(path)}", end="\n")
    echo(f"  {short_path(folder / 'notebooks')}, the notebooks as executed", end="\n")
    improved = dataclasses.replace(settings, recipe="improved").run_folder
    if improved != folder and improved.exists():
        echo(f"The run of notebook 5 is in {short_path(improved)}.", end="\n")


if __name__ == "__main__":
    main(arguments)
