"""The solutions of the exercises; `make test` runs them beside the notebooks, in the profile smoke."""

import ast
import os
import re
from types import SimpleNamespace

import nbformat
import pytest
from test_accessibility import says_something, words_among_outputs

from conftest import NOTEBOOKS
from gan_utils import PROJECT_FOLDER
from gan_utils.settings import choose_settings
from scripts import run_notebooks

SOLUTIONS = sorted((PROJECT_FOLDER / "notebooks" / "solutions").glob("*.ipynb"))
CONDITIONAL = "3. A level of your choice"  # of notebook 5


def read(path):
    """The Markdown cells and the code cells of a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return [[cell for cell in cells if cell.cell_type == kind] for kind in ("markdown", "code")]


def exercises(path):
    """["1. Fewer subjects", ...] of a notebook."""
    text = "\n\n".join(cell.source for cell in read(path)[0])
    section = text.split("## Exercises\n")[1].split("\n## ")[0]
    return [f"{number}. {name}" for number, name in re.findall(r"^(\d+)\. \*\*(.+?)\*\*", section, re.MULTILINE)]


def test_each_notebook_has_solutions():
    assert [path.name for path in SOLUTIONS] == [path.name for path in NOTEBOOKS if exercises_in(path)]


def exercises_in(path):
    return any("## Exercises" in cell.source for cell in read(path)[0])


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_each_exercise_is_solved_under_its_number_and_name(path):
    notebook = path.parents[1] / path.name
    text = "\n\n".join(cell.source for cell in read(path)[0])
    assert 2 <= len(exercises(notebook)) <= 3
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == exercises(notebook)
    assert f"(solutions/{path.name})" in "".join(cell.source for cell in read(notebook)[0])
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https:")]
    assert f"../{path.name}" in links
    assert all((path.parent / link).exists() for link in links)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_committed_as_run_from_top_to_bottom(path):
    cells = read(path)[1]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert path.stat().st_size < 600_000
    text = path.read_text(encoding="utf-8")
    assert str(PROJECT_FOLDER) not in text
    assert not re.search(r'[" ]/(home|Users|root|tmp|work)/', text)
    assert max(len(line) for cell in cells for line in cell.source.splitlines()) <= 88


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_every_picture_of_the_solutions_has_words(path):
    words = words_among_outputs(path)
    assert words
    assert [each for each in words if not says_something(each)] == []


def test_the_conditional_gan_is_short_and_needs_nothing_but_the_package():
    cells = nbformat.read(SOLUTIONS[4], as_version=4).cells
    (start,) = [number for number, cell in enumerate(cells) if f"## {CONDITIONAL}\n" in cell.source]
    code = [cell.source for cell in cells[start:] if cell.cell_type == "code"]
    (trained,) = [number for number, source in enumerate(code) if "model.fit(" in source]
    source = "\n".join(code[: trained + 1])
    lines = [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert 10 < len(lines) <= 25
    places = {}  # {name: the package that it is from}
    for node in ast.walk(ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                package = node.module if isinstance(node, ast.ImportFrom) else alias.name
                places[alias.asname or alias.name] = package.split(".")[0]
    used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert {places[name] for name in used & places.keys()} == {"gan_utils", "keras", "numpy"}


def test_the_slider_shows_a_slice():
    """As saved: pages that show widgets show it without a kernel."""
    widgets = nbformat.read(SOLUTIONS[4], as_version=4).metadata.widgets["application/vnd.jupyter.widget-state+json"]
    (shown,) = [each.state.outputs for each in widgets.state.values() if each.model_name == "OutputModel"]
    assert [output.metadata["image/png"]["alt"] for output in shown] == ["Head 1, the slice at level 0.50"]


def test_make_run_leaves_the_solutions_alone(monkeypatch, tmp_path):
    ran, settings = [], choose_settings("brain", "smoke", output=str(tmp_path))

    def run_notebook(path, folder):
        ran.append(path.parent.name)
        (folder / path.name).touch()

    monkeypatch.setattr(run_notebooks, "run_notebook", run_notebook)
    monkeypatch.setattr(run_notebooks, "parsed_settings", lambda arguments: settings)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    (tmp_path / f"{settings.run_name}-unfinished-notebooks").mkdir()
    run_notebooks.main(SimpleNamespace(start_over=False, only=None, **dict.fromkeys(run_notebooks.COMMAND_LINE, "")))
    assert set(ran) == {"notebooks"}
