"""What all commands have in common: --help, options that have no effect, consoles with few characters, bad folders."""

import os
import shutil
import subprocess
import sys

import pytest

import prepare
from benchmarks.__main__ import BENCHMARKS
from gan_utils import PROJECT_FOLDER, DataError, counted
from gan_utils.data import DATASETS
from gan_utils.settings import RECIPES, Settings, choose_settings

COMMANDS = {
    "scripts.train": (),
    "scripts.train_on_several_machines": (),
    "scripts.run_notebooks": (),
    "scripts.ablation": ("recipe",),
    "scripts.export_images": ("data",),
    "scripts.cut_volumes": ("profile", "recipe", "data", "settings"),
}
CHOICES = {"experiment": DATASETS, "profile": DATASETS["brain"].profiles, "recipe": RECIPES}
RUN_AND_LIST_MODULES = """
import runpy, sys
sys.argv[:] = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__")
finally:
    print(*sys.modules)
"""


def run(*command, **variables):
    variables = {**os.environ, "PYTHONPATH": str(PROJECT_FOLDER), **variables}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER, env=variables)


@pytest.mark.parametrize("module", [*COMMANDS, "scripts.publish_run", "scripts.publish_long_runs", "benchmarks"])
def test_help_comes_without_the_libraries_that_take_seconds_to_import(module):
    answer = run("-c", RUN_AND_LIST_MODULES, module, "--help")
    text, modules = answer.stdout.rstrip().rsplit("\n", 1)
    assert answer.returncode == 0
    assert not answer.stderr
    assert not {"tensorflow", "keras", "nbclient", "nbformat", "matplotlib", "scipy"} & {*modules.split()}
    assert module in text


@pytest.mark.parametrize(("module", "without"), COMMANDS.items())
def test_help_lists_every_choice(module, without):
    text = run("-m", module, "--help", COLUMNS="200").stdout
    for name, choices in CHOICES.items():
        assert (f"--{name} {'|'.join(choices)}" in text) == (name not in without)
    settings = [name for name in Settings.__dataclass_fields__ if name not in ("data", *CHOICES)]
    assert all(f"\n  {name}=" in text for name in settings) == ("settings" not in without)


def test_help_tells_types_and_ranges_of_settings():
    text = run("-m", "scripts.train", "--help").stdout
    for line in (
        "beta_1=a number, 0 or more, less than 1",
        "debug=True or False",
        "steps_per_epoch=a whole number, 1 or more; or None",
        "resize=pad|squash",
    ):
        assert f"\n  {line}\n" in text


def test_help_names_all_benchmarks():
    assert all(f" {name}" in run("-m", "benchmarks", "--help").stdout.replace("[", " ") for name in BENCHMARKS)


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_help_prints_targets_and_choices():
    text = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=PROJECT_FOLDER).stdout
    for words in ("make samples", "EXPERIMENT=brain|knee PROFILE=smoke|quick|full RECIPE=baseline|improved"):
        assert words in text


@pytest.mark.parametrize(("module", "without"), [item for item in COMMANDS.items() if item[1]])
def test_options_without_effect_are_refused_and_variables_named(module, without):
    refused = run("-m", module, "folder", f"--{without[0]}", "smoke")
    assert refused.returncode == 2
    assert f"--{without[0]}" in refused.stderr.splitlines()[-1]
    said = run("-m", module, "--help", **{f"GAN_{without[0].upper()}": "improved"}).stderr
    assert said == f"GAN_{without[0].upper()} ({without[0].upper()}) improved has no effect on {module}.\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:strict", "utf-8"])
def test_what_a_console_cannot_print_ends_no_run(encoding):
    code = "print('Δ 日本 \\udcff'); UpdatingLine().show('Δ 日本 \\udcff', last=True); sys.exit('Δ 日本 \\udcff')"
    answer = run("-c", f"import sys, scripts; from gan_utils import UpdatingLine; {code}", PYTHONIOENCODING=encoding)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "\\udcff" in answer.stdout
    assert answer.stderr.count("\\udcff") == 2


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.parametrize("inside", ["", "folder", "folder/folder"])
def test_output_folder_with_a_file_in_its_place_is_refused_before_anything_is_made(file, monkeypatch, inside):
    monkeypatch.setattr(prepare, "needs_phantoms", lambda settings: pytest.fail("too late"))
    with pytest.raises(DataError, match=rf"{file}: Not a directory.*another output folder"):
        prepare.phantoms(choose_settings("brain", "smoke", output=str(file / inside)))


def test_folders_that_can_be_made_are_not_made_by_the_check(tmp_path):
    prepare.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    if os.geteuid():
        tmp_path.chmod(0o500)
    else:  # nothing is forbidden to root

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(type(tmp_path), "touch", refuse)
    with pytest.raises(DataError, match=f"{tmp_path}: Permission denied.*allow yourself to write there"):
        prepare.check_writable(tmp_path / "a")


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("scripts.run_notebooks", ("--settings", "output={file}")),
        ("scripts.run_notebooks", ("--settings", "output=~nosuchuser/runs")),
        ("scripts.run_notebooks", ("--data", "~nosuchuser")),
        ("scripts.cut_volumes", ("~nosuchuser/volumes",)),
        ("scripts.cut_volumes", (".", "--to", "~nosuchuser")),
        ("scripts.cut_volumes", (".", "--to", "{file}/slices")),
    ],
)
def test_commands_refuse_bad_paths_in_one_line(file, module, options):
    options = [option.format(file=file) for option in options]
    answer = run("-m", module, *options)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("Cannot ")
    assert "nosuchuser" in line or str(file) in line


@pytest.mark.parametrize(
    ("number", "noun", "words"), [(0, "epoch", "0 epochs"), (1, "epoch", "1 epoch"), (1000, "image", "1,000 images")]
)
def test_numbers_of_things(number, noun, words):
    assert counted(number, noun) == words
