"""The command behind `make run`, and the tool that refreshes what is committed."""

import importlib.util
import json
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from gan_utils.__main__ import drop_tensorflow_log, run_notebook
from gan_utils.figures import show_figure, show_picture
from gan_utils.progress import ProgressLine, duration
from gan_utils.settings import PROJECT_FOLDER


def write_notebook(path, *cells):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    return path


def run_command(*arguments):
    command = [sys.executable, "-m", "gan_utils", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER)


def test_notebook_is_kept_with_its_outputs_and_its_progress_is_told(tmp_path, capsys):
    path = write_notebook(
        tmp_path / "01_a.ipynb",
        "from gan_utils.progress import UpdatingLine\nline = UpdatingLine()\nline.show('begun')\nline.show('half way')",
        "import os; print(os.path.basename(os.getcwd()))",
    )
    run_notebook(path, tmp_path / "notebooks")
    cells = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4).cells
    assert [cell.execution_count for cell in cells] == [1, 2]
    assert cells[0].outputs[0].data["text/plain"] == "half way"
    assert cells[1].outputs[0].text.strip() == tmp_path.name  # the kernel starts beside the notebook
    shown = capsys.readouterr().out
    assert "half way" in shown
    assert "01_a.ipynb: " in shown


def test_alarms_are_told_at_once_between_the_lines_of_progress(tmp_path, capsys):
    path = write_notebook(
        tmp_path / "01_a.ipynb",
        "from gan_utils.progress import UpdatingLine, UpdatingMessage\n"
        "message, line = UpdatingMessage('All is well.'), UpdatingLine()\n"
        "for text in ('begun', 'half way', 'nearly done'):\n"
        "    line.show(text)\n"
        "    message.show(f'Alarm.\\nIt was {text}.')",
    )
    run_notebook(path, tmp_path / "notebooks")
    cells = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4).cells
    assert [output.data["text/plain"] for output in cells[0].outputs] == ["Alarm.\nIt was nearly done.", "nearly done"]
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == ["Alarm.", "It was begun.", "half way", "It was half way.", "It was nearly done."]


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


@pytest.fixture
def publish_run(monkeypatch, tmp_path):
    specification = importlib.util.spec_from_file_location("publish_run", PROJECT_FOLDER / "tools" / "publish_run.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "PROJECT_FOLDER", tmp_path)
    return module


def shown(picture):
    """The output that a notebook saves of a `Picture`."""
    data, metadata = picture._repr_mimebundle_()
    return nbformat.v4.new_output("display_data", data={**data, "text/plain": repr(picture)}, metadata=metadata)


def make_finished_run(publish_run, project, simulated, name="brain-baseline-quick"):
    folder = project / "epoch_images" / name
    (folder / "notebooks").mkdir(parents=True)
    (project / "notebooks").mkdir()
    for file in publish_run.FILES:
        (folder / file).write_text(file)
    (folder / "run.json").write_text(json.dumps({"data": {"simulated": simulated}}))
    (folder / "history.csv").write_text("epoch,ssim\n" + "".join(f"{epoch},0.5\n" for epoch in range(1, 31)))
    for epoch in range(1, 31):
        (folder / f"image_at_epoch_{epoch:04d}.png").write_text(str(epoch))
    (folder / "model_progress.gif").write_bytes(b"GIF of a run")
    picture = show_picture(folder / "model_progress.gif", alt="Heads & fog")
    figure, _ = plt.subplots()
    outputs = [shown(picture), shown(show_figure(figure, alt="A figure"))]
    cells = [nbformat.v4.new_code_cell("show_picture(gif)", execution_count=1, outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "notebooks" / "03_train.ipynb")
    cells = [nbformat.v4.new_code_cell("show_picture(gif)"), nbformat.v4.new_markdown_cell("edited since")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "notebooks" / "03_train.ipynb")


def test_published_run_is_light(publish_run, tmp_path):
    make_finished_run(publish_run, tmp_path, simulated=True)
    publish_run.main("brain-baseline-quick")
    showcase = tmp_path / "epoch_images" / "showcase" / "brain-baseline-quick"
    epochs = sorted(int(path.stem[-4:]) for path in showcase.glob("image_at_epoch_*.png"))
    assert epochs == [1, 2, 3, 10, 25, 30]
    published = (tmp_path / "notebooks" / "03_train.ipynb").read_text()
    assert "image/gif" not in published
    assert "![Heads & fog](../epoch_images/showcase/brain-baseline-quick/model_progress.gif)" in published
    assert "text/html" not in published
    assert '"alt": "A figure"' in published
    assert "edited since" in published


def test_published_knees_leave_the_notebooks_as_they_are(publish_run, tmp_path):
    make_finished_run(publish_run, tmp_path, simulated=True, name="knee-baseline-quick")
    before = (tmp_path / "notebooks" / "03_train.ipynb").read_bytes()
    publish_run.main("knee-baseline-quick")
    assert (tmp_path / "epoch_images" / "showcase" / "knee-baseline-quick" / "SSIM.txt").exists()
    assert (tmp_path / "notebooks" / "03_train.ipynb").read_bytes() == before


def test_published_ablation_takes_the_place_of_the_one_before(publish_run, tmp_path):
    folder, showcase = (tmp_path / "epoch_images" / place for place in ("", "showcase"))
    for place, files in ((folder, ("00_baseline.png", "results.json", "unfinished.part")), (showcase, ("old.png",))):
        (place / "ablation-knee-quick").mkdir(parents=True)
        for file in files:
            (place / "ablation-knee-quick" / file).write_text(file)
    (folder / "ablation-knee-quick" / "run.json").write_text(json.dumps({"data": {"simulated": True}}))
    publish_run.main("ablation-knee-quick")
    files = sorted(path.name for path in (showcase / "ablation-knee-quick").iterdir())
    assert files == ["00_baseline.png", "results.json", "run.json"]


def test_outputs_of_other_code_are_not_published(publish_run, tmp_path):
    make_finished_run(publish_run, tmp_path, simulated=True)
    write_notebook(tmp_path / "notebooks" / "03_train.ipynb", "show_picture(other_gif)")
    with pytest.raises(SystemExit, match="run it again"):
        publish_run.main("brain-baseline-quick")
    assert "image/gif" not in (tmp_path / "notebooks" / "03_train.ipynb").read_text()
    assert not (tmp_path / "epoch_images" / "showcase").exists()


def test_run_without_executed_notebooks_is_not_published(publish_run, tmp_path):
    make_finished_run(publish_run, tmp_path, simulated=True)
    (tmp_path / "epoch_images" / "brain-baseline-quick" / "notebooks" / "03_train.ipynb").unlink()
    with pytest.raises(SystemExit, match=r"no executed 03_train\.ipynb"):
        publish_run.main("brain-baseline-quick")
    assert not (tmp_path / "epoch_images" / "showcase").exists()


def test_run_on_real_scans_is_not_published(publish_run, tmp_path):
    make_finished_run(publish_run, tmp_path, simulated=False)
    with pytest.raises(SystemExit, match="real scans"):
        publish_run.main("brain-baseline-quick")
    assert "model_progress" not in (tmp_path / "notebooks" / "03_train.ipynb").read_text()
    assert not (tmp_path / "epoch_images" / "showcase").exists()
