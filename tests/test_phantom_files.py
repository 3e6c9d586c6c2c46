"""Sets of phantoms are written all or nothing, by one process at a time, and only where they are wanted."""

import errno
import os
import subprocess
import sys
import time

import pytest
from PIL import Image

import prepare
from gan_utils import PROJECT_FOLDER, DataError, data
from gan_utils.data import PHANTOMS, phantom_folder
from gan_utils.settings import choose_settings
from prepare.brain_phantom import write_brain_phantoms
from prepare.knee_phantom import write_knee_phantoms

pytestmark = pytest.mark.slow

both = pytest.mark.parametrize("write", [write_brain_phantoms, write_knee_phantoms])


@both
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interruption_leaves_nothing(tmp_path, write, error):
    def interrupt(done, total):
        if done == 1:
            raise error

    with pytest.raises(error):
        write(tmp_path / "made", 32, 4, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@both
def test_existing_folder_is_left_alone(tmp_path, write):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="delete it"):
        write(tmp_path, 32, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# ---- What the notebooks call -------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder of its own."""
    monkeypatch.setattr(data, "project_path", tmp_path.joinpath)
    return tmp_path


@pytest.fixture
def written(monkeypatch):
    """The arguments of the writers, which write nothing but the folder."""
    calls = []

    def write(folder, *arguments):
        calls.append((folder, *arguments[:2]))
        folder.mkdir()

    for experiment in prepare.PHANTOM_WRITERS:
        monkeypatch.setitem(prepare.PHANTOM_WRITERS, experiment, write)
    return calls


def small(experiment="brain", **changes):
    return choose_settings(experiment, "smoke", **{"phantom_subjects": 4, **changes})


@pytest.mark.parametrize(("experiment", "slices"), [("brain", 32), ("knee", 40)])
def test_what_is_written_can_be_loaded(project, capsys, experiment, slices):
    settings = small(experiment)
    prepare.phantoms(settings)
    splits = data.load(settings)
    assert splits.phantoms
    assert len({*splits.train.subjects, *splits.validate.subjects, *splits.test.subjects}) == 4
    assert len(splits.test) % slices == 0
    assert splits.folder.is_relative_to(phantom_folder(settings))
    assert f"Making {experiment} phantoms, no real scans: 4 in" in capsys.readouterr().err


def test_nothing_is_written_where_own_data_are(project, written):
    (project / "mine").mkdir()
    for place in (project / "mine", project / "there_is_no_such_folder"):
        prepare.phantoms(small(data=place))
    (project / "data" / "keras_png_slices_data" / "keras_png_slices_train").mkdir(parents=True)
    prepare.phantoms(small())
    assert not written
    assert [path.name for path in (project / "data").iterdir()] == ["keras_png_slices_data"]
    prepare.phantoms(small(data=PHANTOMS))  # asked for by name
    prepare.phantoms(small("knee"))  # no slices of knees
    assert written == [
        (project / "data" / "brain_phantoms_32px_4subjects", 32, 4),
        (project / "data" / "knee_phantoms_32px_4subjects", 32, 4),
    ]


def test_phantoms_are_made_once_for_each_size_and_number(project, written, monkeypatch):
    prepare.phantoms(small())
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "only_writer", None)  # not even the lock is asked for
        prepare.phantoms(small())
    assert len(written) == 1
    prepare.phantoms(small(phantom_subjects=5))
    prepare.phantoms(small(image_size=64))
    assert [arguments for _, *arguments in written] == [[32, 4], [32, 5], [64, 4]]


PROCESS = """
import os, pathlib, sys, time
import gan_utils.data, gan_utils.settings, prepare

project = pathlib.Path(sys.argv[1])
gan_utils.data.project_path = project.joinpath
write_phantoms = prepare.PHANTOM_WRITERS["knee"]

def write_when_told(*arguments):
    (project / f"writing_{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while not (project / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    write_phantoms(*arguments)

prepare.PHANTOM_WRITERS["knee"] = write_when_told
prepare.phantoms(gan_utils.settings.choose_settings("knee", "smoke", phantom_subjects=4))
"""


@pytest.mark.parametrize("first_is_killed", [False, True])
def test_of_two_processes_one_writes(project, first_is_killed):
    def start():
        command = [sys.executable, "-c", PROCESS, str(project)]
        return subprocess.Popen(command, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True)

    with start() as first, start_when(lambda: any(project.glob("writing_*")), start) as second:
        assert second.stdout.readline() == "Another process is making these phantoms; waiting for it.\n"
        assert first.poll() is None  # said at once, not when the waiting is over
        if first_is_killed:
            first.kill()
        (project / "go").touch()
        assert (first.wait(60) == 0) is not first_is_killed
        assert second.wait(60) == 0
    writers = {int(path.name.removeprefix("writing_")) for path in project.glob("writing_*")}
    assert writers == ({first.pid, second.pid} if first_is_killed else {first.pid})
    sets = [path.name for path in (project / "data").iterdir() if not path.name.startswith(".")]
    assert sets == ["knee_phantoms_32px_4subjects"]
    assert data.load(small("knee")).phantoms


def start_when(condition, start):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the first process does not write"
        time.sleep(0.02)
    return start()


def test_folder_that_cannot_be_written_to(project):
    (project / "data").write_text("not a folder")
    with pytest.raises(DataError, match=r"brain_phantoms_32px_4subjects \(File exists\).*fewer phantom_subjects"):
        prepare.phantoms(small())


def test_full_disk(project, monkeypatch):
    def fail(image, path, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(DataError, match=r"knee_phantoms_32px_4subjects \(No space left on device\)\. Make room"):
        prepare.phantoms(small("knee"))
    assert [path.name for path in (project / "data").iterdir() if not path.name.startswith(".")] == []
    monkeypatch.undo()
    monkeypatch.setattr(data, "project_path", project.joinpath)
    prepare.phantoms(small("knee"))  # nothing is in the way of a second try
    assert data.load(small("knee")).phantoms


def test_experiment_without_phantoms(project, monkeypatch):
    monkeypatch.delitem(prepare.PHANTOM_WRITERS, "knee")
    with pytest.raises(DataError, match="no phantoms of knee: point DATA at"):
        prepare.phantoms(small("knee"))


def test_import_is_quick():
    """Each notebook imports it, and most find their phantoms made."""
    code = "import sys, prepare; print(*{'scipy', 'nilearn', 'nibabel', 'matplotlib'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_FOLDER, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
