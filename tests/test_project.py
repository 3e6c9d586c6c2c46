"""What holds the project together: committed notebooks, one list of dependencies, light files."""

import itertools
import json
import re
import subprocess
import tomllib

import nbformat
import pytest

import gan_utils
from conftest import FIRST_LOOK, NOTEBOOKS, PAGES
from gan_utils import PROJECT_FOLDER
from gan_utils.ablation import list_variants
from gan_utils.anatomy import ANATOMY
from gan_utils.data import DATASETS
from gan_utils.metrics import METRICS, PUBLISHED_SSIM
from gan_utils.settings import RECIPES
from scripts.publish_long_runs import FILES, OF_DATA, OF_PHANTOMS
from scripts.result_tables import PAGES_WITH_TABLES, filled

SHOWCASE = PROJECT_FOLDER / "epoch_images" / "showcase"
NAMES = ["01_explore_data", "02_define_models", "03_train", "04_evaluate", "05_improve_the_gan"]


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def committed_files():
    if not (PROJECT_FOLDER / ".git").exists():
        pytest.skip("no git clone: which files are committed cannot be told")
    listed = subprocess.run(["git", "-C", str(PROJECT_FOLDER), "ls-files", "-z"], capture_output=True, check=True)
    paths = [PROJECT_FOLDER / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.exists()]


def test_all_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("path", [FIRST_LOOK, *NOTEBOOKS], ids=lambda path: path.stem)
def test_notebook_is_committed_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert path.stat().st_size < 600_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_cells_whose_output_nbval_compares_have_one(path):
    checked = [cell for cell in code_cells(path) if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert checked or path.stem == "03_train"  # nothing in a training run is equal in every profile
    assert all(cell.outputs for cell in checked)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_has_settings(path):
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code_cells(path)) == 1


@pytest.mark.parametrize("path", [FIRST_LOOK, *NOTEBOOKS], ids=lambda path: path.stem)
def test_notebook_has_no_path_of_one_machine(path):
    text = path.read_text(encoding="utf-8")
    assert str(PROJECT_FOLDER) not in text
    assert not re.search(r'"/(home|Users|root|tmp)/', text)


@pytest.mark.parametrize(
    "path", [FIRST_LOOK, *NOTEBOOKS, *PAGES], ids=lambda path: str(path.relative_to(PROJECT_FOLDER))
)
def test_pages_link_to_committed_files_and_to_headings_that_exist(path):
    committed = {place.resolve() for place in committed_files()}
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":  # code has brackets of its own, outputs have links to pictures
        cells = nbformat.reads(text, as_version=4).cells
        outputs = [
            output.get("data", {}).get("text/markdown", "") for cell in cells for output in cell.get("outputs", [])
        ]
        text = "\n".join([*(cell.source for cell in cells if cell.cell_type == "markdown"), *outputs])
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, heading = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place in committed, target
        assert not heading or heading in anchors(place), target


def test_troubleshooting_quotes_errors_that_the_code_raises():
    section = (PROJECT_FOLDER / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [text for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for text in re.findall("`(.+?)`", row)]
    sources = "".join(path.read_text(encoding="utf-8") for path in PROJECT_FOLDER.glob("[gps]*/*.py"))
    sources = re.sub(r'"\n\s+f?"', "", sources) + (PROJECT_FOLDER / "Makefile").read_text(encoding="utf-8")
    ours = [text for text in quoted if text not in NOT_OUR_WORDS]
    assert len(ours) > 10
    assert not [text for text in ours if text not in sources]


# What Python and TensorFlow say; what notebooks print of `describe_setup`.
NOT_OUR_WORDS = {
    "No module named 'gan_utils'",
    "I0000",
    "E0000 ... remapper failed",
    "WARNING: All log messages before absl",
    "on CPU",
}


def anchors(page):
    """The names under which the headings of a Markdown page can be linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_notebooks_and_showcase_are_of_one_run():
    report = (SHOWCASE / "brain-baseline-quick" / "SSIM.txt").read_text()
    assert report in [output.get("text") for cell in code_cells(NOTEBOOKS[3]) for output in cell.outputs]


QUICK_RUNS = [f"{experiment}-{recipe}-quick" for experiment in DATASETS for recipe in RECIPES]


@pytest.mark.parametrize("run", QUICK_RUNS)
def test_showcase_holds_every_metric_with_its_floors_and_references(run):
    results = json.loads((SHOWCASE / run / "results.json").read_text())
    images = ("generated", "black_image", "mean_training_image", "held-out_subjects")
    for protocol in PUBLISHED_SSIM:
        assert {f"{protocol}_{each}{of}" for each in images for of in ("", "_spread")} <= results["ssim"].keys()
    lines = dict(line.split() for line in (SHOWCASE / run / "SSIM.txt").read_text().splitlines())
    assert lines == {name: f"{value:.4f}" for name, value in results["ssim"].items()}
    names = [name for name, metric in METRICS.items() if metric.needs != "discriminator" and name != "ssim"]
    assert {f"{name}{real}" for name in names for real in ("", "_real")} <= results.keys()
    assert results["over_people"]["swd"][1] > 0
    anatomy = {f"{name}_{images}" for name in ANATOMY[run.split("-")[0]] for images in ("generated", "training")}
    assert results["anatomy"].keys() == anatomy


LONG_RUNS = [f"{experiment}-{recipe}-full" for experiment in DATASETS for recipe in RECIPES]


@pytest.mark.parametrize("run", [*LONG_RUNS, *(f"brain-{recipe}-full-phantoms" for recipe in RECIPES)])
def test_long_runs_in_the_showcase_show_no_scan(run):
    notes = json.loads((SHOWCASE / run / "run.json").read_text())
    shown = {path.name for path in (SHOWCASE / run).iterdir()}
    of_baseline = notes["data"]["simulated"] and notes["settings"]["recipe"] == "baseline"
    phantoms = {OF_PHANTOMS} if of_baseline else set()
    assert shown == {*FILES, "model_progress.gif", "run.json"} | phantoms
    assert notes["data"].keys() == set(OF_DATA)
    assert (notes["settings"]["data"], notes["settings"]["output"]) == (None, "epoch_images")


@pytest.mark.parametrize("page", PAGES_WITH_TABLES, ids=lambda page: str(page.relative_to(PROJECT_FOLDER)))
def test_tables_say_what_the_runs_in_the_showcase_gave(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text
    assert filled(text.replace("| 0.98 |", "| 0.12 |", 1)) == text, "a wrong number is not seen"


@pytest.mark.parametrize("experiment", DATASETS)
def test_ablation_in_the_showcase_is_of_todays_settings(experiment):
    folder = SHOWCASE / f"ablation-{experiment}-quick"
    rows = {row["name"]: row for row in json.loads((folder / "results.json").read_text())}
    for variant in list_variants(experiment, "quick"):
        assert rows[variant.name]["changed"] == variant.changed
        assert (folder / rows[variant.name]["picture"]).exists()


def test_conda_environment_repeats_no_package():
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.match(r"[\w-]+", line)[0] for line in wanted}
    lines = [line.strip().removeprefix("- ") for line in (PROJECT_FOLDER / "environment.yml").read_text().splitlines()]
    assert not names & {re.split(r"[=<>\s]", line)[0] for line in lines if not line.startswith("#")}
    assert {"-e .[test]", "-c constraints.txt"} <= set(lines)


def test_citation_is_of_the_version_that_is_installed():
    version = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["project"]["version"]
    citation = (PROJECT_FOLDER / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    date = re.search(r'date-released: "(.+)"', citation)[1]
    assert f"\n## {version} ({date})\n" in (PROJECT_FOLDER / "CHANGELOG.md").read_text()


def test_every_direct_dependency_has_a_tested_version():
    project = tomllib.loads((PROJECT_FOLDER / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    pinned = {line.split("==")[0].lower() for line in (PROJECT_FOLDER / "constraints.txt").read_text().splitlines()}
    assert {re.match(r"[\w-]+", line)[0] for line in wanted} <= pinned


def test_repository_stays_light():
    sizes = {str(path): path.stat().st_size for path in committed_files()}
    assert max(sizes.values()) < 4e6
    assert sum(sizes.values()) < 25e6
    weights = [name for name in sizes if name.endswith((".keras", ".h5", ".zip", ".npy", ".npz"))]
    assert weights == [str(FIRST_LOOK.with_name("first_look") / "generator.keras")]  # trained on phantoms alone


def test_packages_keep_to_their_budgets():
    """Small enough to read in one sitting: no more modules, and none longer."""
    lines = {path.name: len(path.read_text().splitlines()) for path in PROJECT_FOLDER.glob("gan_utils/*.py")}
    assert len(lines) <= 19  # with __init__
    assert max(lines.values()) <= 315


def test_imports_run_downwards():
    """No module imports one that comes after it in the list of gan_utils, and none imports prepare or scripts."""
    listed = re.findall(r"^(\w+)  +", gan_utils.__doc__, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in PROJECT_FOLDER.glob("gan_utils/*.py") if path.stem[0] != "_")
    for place, name in enumerate(listed):
        text = (PROJECT_FOLDER / "gan_utils" / f"{name}.py").read_text()
        assert not re.search(r"(import|from) (prepare|scripts)", text)
        imported = re.findall(r"from gan_utils\.(\w+) import", text)
        imported += [word for words in re.findall(r"from gan_utils import (.+)", text) for word in words.split(", ")]
        assert not [other for other in imported if other in listed[place:]], name


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=lambda path: str(path.relative_to(PROJECT_FOLDER)))
def test_pages_speak_of_notebooks_that_exist(path):
    there = {int(each.name[:2]) for each in (PROJECT_FOLDER / "notebooks").glob("[0-9]*.ipynb")}
    text = path.read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"\b[Nn]otebook (\d+)", text)} <= there


def test_readme_is_read_in_two_minutes():
    text = (PROJECT_FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1200


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_is_read_in_one_sitting(path):
    cells = nbformat.read(path, as_version=4).cells
    text = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert len(re.findall(r"\S*\w\S*", text)) <= 1600
