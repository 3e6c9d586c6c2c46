"""The command that refreshes what is committed from a finished run."""

import json

import matplotlib.pyplot as plt
import nbformat
import pytest

from gan_utils.plots import show_figure, show_picture
from scripts import publish_run


@pytest.fixture(autouse=True)
def project(monkeypatch, tmp_path):
    """An empty folder in place of the project's."""
    monkeypatch.setattr(publish_run, "PROJECT_FOLDER", tmp_path)
    return tmp_path


def shown(picture):
    """The output that a notebook saves of a `Picture`."""
    data, metadata = picture._repr_mimebundle_()
    return nbformat.v4.new_output("display_data", data={**data, "text/plain": repr(picture)}, metadata=metadata)


def make_finished_run(project, simulated, name="brain-baseline-quick"):
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


def test_published_run_is_light(project):
    make_finished_run(project, simulated=True)
    publish_run.main("brain-baseline-quick")
    showcase = project / "epoch_images" / "showcase" / "brain-baseline-quick"
    epochs = sorted(int(path.stem[-4:]) for path in showcase.glob("image_at_epoch_*.png"))
    assert epochs == [1, 2, 3, 10, 25, 30]
    published = (project / "notebooks" / "03_train.ipynb").read_text()
    assert "image/gif" not in published
    assert "![Heads & fog](../epoch_images/showcase/brain-baseline-quick/model_progress.gif)" in published
    assert "text/html" not in published
    assert '"alt": "A figure"' in published
    assert "edited since" in published


def test_published_knees_leave_the_notebooks_as_they_are(project):
    make_finished_run(project, simulated=True, name="knee-baseline-quick")
    before = (project / "notebooks" / "03_train.ipynb").read_bytes()
    publish_run.main("knee-baseline-quick")
    assert (project / "epoch_images" / "showcase" / "knee-baseline-quick" / "SSIM.txt").exists()
    assert (project / "notebooks" / "03_train.ipynb").read_bytes() == before


def test_published_ablation_takes_the_place_of_the_one_before(project):
    folder, showcase = (project / "epoch_images" / place for place in ("", "showcase"))
    for place, files in ((folder, ("00_baseline.png", "results.json", "unfinished.part")), (showcase, ("old.png",))):
        (place / "ablation-knee-quick").mkdir(parents=True)
        for file in files:
            (place / "ablation-knee-quick" / file).write_text(file)
    (folder / "ablation-knee-quick" / "run.json").write_text(json.dumps({"data": {"simulated": True}}))
    publish_run.main("ablation-knee-quick")
    files = sorted(path.name for path in (showcase / "ablation-knee-quick").iterdir())
    assert files == ["00_baseline.png", "results.json", "run.json"]


def test_outputs_of_other_code_are_not_published(project):
    make_finished_run(project, simulated=True)
    cells = [nbformat.v4.new_code_cell("show_picture(other_gif)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "notebooks" / "03_train.ipynb")
    with pytest.raises(SystemExit, match="run it again"):
        publish_run.main("brain-baseline-quick")
    assert "image/gif" not in (project / "notebooks" / "03_train.ipynb").read_text()
    assert not (project / "epoch_images" / "showcase").exists()


def test_run_without_executed_notebooks_is_not_published(project):
    make_finished_run(project, simulated=True)
    (project / "epoch_images" / "brain-baseline-quick" / "notebooks" / "03_train.ipynb").unlink()
    with pytest.raises(SystemExit, match=r"no executed 03_train\.ipynb"):
        publish_run.main("brain-baseline-quick")
    assert not (project / "epoch_images" / "showcase").exists()


def test_run_on_real_scans_is_not_published(project):
    make_finished_run(project, simulated=False)
    with pytest.raises(SystemExit, match="real scans"):
        publish_run.main("brain-baseline-quick")
    assert "model_progress" not in (project / "notebooks" / "03_train.ipynb").read_text()
    assert not (project / "epoch_images" / "showcase").exists()
