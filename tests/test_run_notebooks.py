"""The command behind `make run`."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from gan_utils import PROJECT_FOLDER, ProgressLine, duration
from scripts import run_notebooks
from scripts.command_line import make_parser
from scripts.run_notebooks import drop_tensorflow_log, echo, run_notebook

pytestmark = pytest.mark.slow


def write_notebook(path, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    return path


def run_command(*arguments):
    command = [sys.executable, "-m", "scripts.run_notebooks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER)


def test_notebook_is_kept_with_its_outputs_and_its_progress_is_echoed(tmp_path, capsys):
    path = write_notebook(
        tmp_path / "01_a.ipynb",
        "from gan_utils import UpdatingLine\nline = UpdatingLine()\nline.show('begun')\nline.show('half way')",
        "import os; print(os.path.basename(os.getcwd()))",
    )
    run_notebook(path, tmp_path / "notebooks")
    cells = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4).cells
    assert [cell.execution_count for cell in cells] == [1, 2]
    assert cells[0].outputs[0].data["text/plain"] == "half way"
    assert cells[1].outputs[0].text.strip() == tmp_path.name  # the kernel starts beside the notebook
    assert not any("execution" in cell.metadata for cell in cells)
    shown = capsys.readouterr().out
    assert "half way" in shown
    assert "01_a.ipynb: " in shown


def test_warnings_are_echoed_at_once_between_the_lines_of_progress(tmp_path, capsys):
    path = write_notebook(
        tmp_path / "01_a.ipynb",
        "from gan_utils import UpdatingLine\n"
        "warnings, line = UpdatingLine(), UpdatingLine()\n"
        "warnings.show('No warnings so far.', last=True)\n"
        "for text in ('begun', 'half way', 'nearly done'):\n"
        "    line.show(text)\n"
        "    warnings.show(f'Warning.\\nIt was {text}.', last=True)",
    )
    run_notebook(path, tmp_path / "notebooks")
    cells = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4).cells
    assert [output.data["text/plain"] for output in cells[0].outputs] == [
        "Warning.\nIt was nearly done.",
        "nearly done",
    ]
    said = capsys.readouterr().out.splitlines()
    assert said[:-1] == [
        "No warnings so far.",
        *("Warning.", "It was begun."),
        "half way",
        *("Warning.", "It was half way."),
        *("Warning.", "It was nearly done."),  # "nearly done" itself came too soon after "half way"
    ]


def test_a_terminal_overwrites_its_line_and_keeps_the_last_one(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(run_notebooks.shutil, "get_terminal_size", lambda: SimpleNamespace(columns=10))
    for text, end in (("a line that would wrap", ""), ("the last line is kept whole", "\n")):
        echo(text, end=end)
    assert capsys.readouterr().out == "\r\033[Ka line th\r\033[Kthe last line is kept whole\n"


def test_failing_notebook_is_kept_with_its_error(tmp_path):
    path = write_notebook(
        tmp_path / "01_a.ipynb", "print('so far')", "raise ValueError('no such folder')", "print('after')"
    )
    with pytest.raises(CellExecutionError, match="no such folder"):
        run_notebook(path, tmp_path / "notebooks")
    cells = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4).cells
    assert cells[1].outputs[0].output_type == "error"
    assert not cells[2].outputs


def test_only_tensorflow_start_up_messages_are_dropped():
    log = "WARNING: All log messages before absl::InitializeLog() is called ...\nI0000 00:00:17 port.cc\n"
    texts = [log, "UserWarning: mind this\n", log + "UserWarning: mind this\n"]
    outputs = [nbformat.v4.new_output("stream", name="stderr", text=text) for text in texts]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    drop_tensorflow_log(notebook)
    assert [output.text for output in notebook.cells[0].outputs] == texts[1:]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--experiment", "liver"], "brain, knee"),
        (["--profile", "fast"], "quick"),
        (["--settings", "epoch=3"], "no such setting: epoch"),
        (["--settings", "epochs=2 data=elsewhere"], "choose the data by DATA="),
    ],
)
def test_wrong_choice_ends_in_one_clear_line(arguments, expected):
    run = run_command(*arguments)
    assert run.returncode != 0
    assert run.stderr.startswith("Cannot start: ")
    assert "Traceback" not in run.stderr
    assert expected in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_without_notebooks_nothing_is_said_to_be_done(tmp_path):
    for package in ("gan_utils", "prepare", "scripts"):
        shutil.copytree(PROJECT_FOLDER / package, tmp_path / package)
    variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "scripts.run_notebooks", "--profile", "smoke"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert run.returncode == 1
    assert (
        run.stderr == f"Cannot start: no notebooks in {tmp_path / 'notebooks'}. Get the whole project by git clone.\n"
    )
    assert not run.stdout


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two notebooks in place of the project's, and a run that they belong to."""
    (tmp_path / "notebooks").mkdir()
    write_notebook(tmp_path / "notebooks" / "01_a.ipynb", "1 + 1")
    write_notebook(tmp_path / "notebooks" / "02_b.ipynb", "2 + 2")
    monkeypatch.setattr(run_notebooks, "PROJECT_FOLDER", tmp_path)
    choices = {"experiment": "brain", "profile": "smoke", "recipe": "baseline", "data": ""}
    for name, value in {**choices, "settings": f"output='{tmp_path / 'runs'}'"}.items():
        monkeypatch.setenv(f"GAN_{name.upper()}", value)
    return tmp_path


def run_in(project, only=None):
    """Run them as the command does, and return the run's folder."""
    arguments = make_parser("scripts.run_notebooks", "", trains=True).parse_args([])
    arguments.only = only
    run_notebooks.main(arguments)
    return project / "runs" / "brain-baseline-smoke"


def test_one_notebook_can_be_run_alone_and_the_others_stay_as_executed(project):
    executed = run_in(project) / "notebooks"
    before = (executed / "01_a.ipynb").stat().st_mtime_ns
    (project / "notebooks" / "01_a.ipynb").write_text("broken since")
    write_notebook(project / "notebooks" / "02_b.ipynb", "'changed'")
    run_in(project, only=[2])
    assert (executed / "01_a.ipynb").stat().st_mtime_ns == before
    assert "changed" in (executed / "02_b.ipynb").read_text()
    assert not list((project / "runs").glob("*unfinished*"))


def test_a_notebook_that_is_not_there_is_refused(project):
    with pytest.raises(SystemExit, match="there is no notebook 3; choose from 1, 2"):
        run_in(project, only=[3])


def test_only_results_that_are_there_are_listed(project, capsys):
    folder = project / "runs" / "brain-baseline-smoke"
    folder.mkdir(parents=True)
    (folder / "SSIM.txt").touch()
    run_in(project)
    listed = capsys.readouterr().out.split("Results are in ")[1].splitlines()
    notebooks = f"  {folder / 'notebooks'}, the notebooks as executed"
    assert listed == [f"{folder}:", f"  {folder / 'SSIM.txt'}", notebooks]
    assert (folder / "notebooks" / "01_a.ipynb").exists()


def fail_after_one_of_three():
    with ProgressLine("Writing") as progress:
        progress.update(1, 3)
        raise OSError("disk")


def test_progress_line_tells_how_it_ended(capsys):
    with ProgressLine("Loading") as progress:
        progress.update(3, 3)
    with pytest.raises(OSError, match="disk"):
        fail_after_one_of_three()
    shown = capsys.readouterr().err
    assert "Loading: 3 in 0 s" in shown
    assert "Writing: 1 stopped after 0 s" in shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3600 * 3 + 1260, "3 h 21 min")]
)
def test_durations_are_said_as_a_person_would(seconds, said):
    assert duration(seconds) == said
