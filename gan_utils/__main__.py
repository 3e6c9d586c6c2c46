"""Run the notebooks in order, each in a kernel of its own, and keep them as executed with the run.

python -m gan_utils [--experiment brain|knee] [--profile smoke|quick|full] [--recipe baseline] [--data FOLDER]
                    [--settings "epochs=100 batch_size=32"]
"""

import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from gan_utils.arguments import make_parser, settings_of
from gan_utils.progress import duration
from gan_utils.runs import make_way, written_beside
from gan_utils.settings import PROJECT_FOLDER, short_path

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


class TalkingClient(NotebookClient):
    """Runs a notebook and repeats its updating lines (progress, time left, alarms) in the terminal."""

    last_said = 0.0

    def process_message(self, message, cell, cell_index):
        content = message["content"]
        if message["msg_type"] == "update_display_data" and set(content["data"]) == {"text/plain"}:
            now = time.monotonic()
            if "say" in content["metadata"]:
                say(content["metadata"]["say"], end="\n")
            elif sys.stdout.isatty() or now - self.last_said > SECONDS_BETWEEN_LINES:
                self.last_said = now
                say(content["data"]["text/plain"])
        return super().process_message(message, cell, cell_index)


def say(text, end=""):
    """Overwrite the current line of a terminal; write a line a call anywhere else."""
    if sys.stdout.isatty():
        # A line that wraps cannot be overwritten.
        fitting = text if end else text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\033[K{fitting}", end=end, flush=True)
    else:
        print(text, flush=True)


def run_notebook(path, folder):
    """Execute the notebook at `path` and write it with its outputs into `folder`, also when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    client = TalkingClient(
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
        with written_beside(folder / path.name) as beside:
            nbformat.write(notebook, beside)
    say(f"{path.name}: {duration(time.monotonic() - start)}", end="\n")


def drop_tensorflow_log(notebook):
    for cell in notebook.cells:
        cell.get("metadata", {}).pop("execution", None)  # time stamps, which only make differences noisy
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_tensorflow_log(output)]


def is_tensorflow_log(output):
    lines = output.get("text", "").splitlines()
    return output.get("name") == "stderr" and all(TENSORFLOW_LOG.match(line) or not line.strip() for line in lines)


def main():
    arguments = make_parser("gan_utils", __doc__.splitlines()[0]).parse_args()
    try:
        settings = settings_of(arguments)
        folder = make_way(settings)
    except ValueError as error:
        sys.exit(f"Cannot start: {error}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's C++ messages would fill the terminal
    # The notebooks read their defaults from here.
    os.environ.update({f"GAN_{name.upper()}": value for name, value in vars(arguments).items()})
    say(f"Running {settings.run_name}; the executed notebooks go to {short_path(folder / 'notebooks')}.", end="\n")
    start = time.monotonic()
    for path in sorted((PROJECT_FOLDER / "notebooks").glob("[0-9]*.ipynb")):
        say(f"{path.name} ...")
        try:
            run_notebook(path, folder / "notebooks")
        except CellExecutionError as error:
            say("", end="\n")
            sys.exit(f"{path.name} stopped, see {short_path(folder / 'notebooks')}:\n{error.ename}: {error.evalue}")
        except DeadKernelError:
            say("", end="\n")
            sys.exit(
                f"{path.name} was ended: by you, or by the system because memory ran out. The same command goes on "
                "after the last whole epoch."
            )
    say(f"Done in {duration(time.monotonic() - start)}. Results are in {short_path(folder)}:", end="\n")
    for name in RESULTS:
        say(f"  {short_path(folder / name)}", end="\n")


if __name__ == "__main__":
    main()
