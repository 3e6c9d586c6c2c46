"""Refresh what is committed from a finished run: the light showcase and, for brains, the notebooks' outputs.

    python -m scripts.publish_run brain-baseline-quick        (`make notebooks` makes the run first)
    python -m scripts.publish_run ablation-brain-quick        (`make ablation` makes it first)

Only for runs on digital phantoms: pictures of real scans must not be committed. The notebooks show
brain-baseline-quick only.
"""

import shutil
import sys
from base64 import b64decode

if __name__ == "__main__" and (len(sys.argv) != 2 or "--help".startswith(sys.argv[1])):
    print(__doc__)  # before TensorFlow is imported, so that it comes at once
    sys.exit(len(sys.argv) != 2)

import nbformat

from gan_utils import PROJECT_FOLDER, read_json
from gan_utils.play import WIDGET_VIEW
from gan_utils.plots import epoch_image_path
from gan_utils.run_folder import read_history

FILES = (
    "model_progress.gif",
    "latent_walk.gif",
    "loss_graph.png",
    "loss_plot.png",
    "judgement_graph.png",
    "ssim_graph.png",
    "real_batch.png",
    "example_output.png",
    "SSIM.txt",
    "history.csv",
    "results.json",
    "run.json",
)
EPOCHS = (1, 2, 3, 10, 25)
NOTEBOOKS_SHOW = "brain-baseline-quick"


def main(name):
    run_folder = PROJECT_FOLDER / "epoch_images" / name
    if not read_json(run_folder / "run.json")["data"]["simulated"]:
        sys.exit(f"{name} was trained on real scans, which its notebooks show: not published")
    if name.startswith("ablation-"):
        return publish(name, [*run_folder.glob("*.png"), run_folder / "run.json", run_folder / "results.json"])
    notebooks = [
        with_outputs(path, run_folder / "notebooks" / path.name, name)
        for path in sorted((PROJECT_FOLDER / "notebooks").glob("0[1-9]*.ipynb"))
    ]
    # Nothing is written before everything has been checked.
    if name == NOTEBOOKS_SHOW:
        for path, notebook in notebooks:
            nbformat.write(notebook, path)
    last = int(read_history(run_folder)["epoch"][-1])
    chosen = sorted({epoch for epoch in EPOCHS if epoch < last} | {last})
    grids = [epoch_image_path(run_folder, epoch) for epoch in chosen]
    publish(name, [*(run_folder / file for file in FILES), *grids])


def publish(name, paths):
    """Put copies of the files into the showcase, in place of those of an earlier run of that name."""
    showcase = PROJECT_FOLDER / "epoch_images" / "showcase" / name
    copy_afresh(paths, showcase)
    print(
        f"{showcase.relative_to(PROJECT_FOLDER)}{' and notebooks/' if name == NOTEBOOKS_SHOW else ''} now show {name}"
    )


def copy_afresh(paths, folder):
    """Put copies of the files into a folder, and leave nothing else in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in paths:
        shutil.copy2(path, folder)


def with_outputs(path, executed_path, name):
    """The notebook at `path` with the outputs of its executed copy; its text may be newer, its code may not."""
    if not executed_path.exists():
        sys.exit(f"{name} has no executed {path.name}: make the run with `make run`")
    notebook, executed = (nbformat.read(place, as_version=4) for place in (path, executed_path))
    lighten(executed, executed_path.parents[1], f"../epoch_images/showcase/{name}")
    cells, done = ([cell for cell in book.cells if cell.cell_type == "code"] for book in (notebook, executed))
    if [cell.source for cell in cells] != [cell.source for cell in done]:
        sys.exit(f"the code of {path.name} has changed since the run: run it again")
    for cell, source in zip(cells, done, strict=True):
        cell.outputs, cell.execution_count = source.outputs, source.execution_count
    return path, notebook


def lighten(notebook, run_folder, showcase):
    """Keep each picture once, as an image with its words in the metadata, and GIFs as links to the showcase.

    A run's notebook holds each picture as HTML, too, for JupyterLab, and as a widget that nobody answers any more. With
    megabytes inside, GitHub shows no notebook.
    """
    names = {path.read_bytes(): path.name for path in run_folder.glob("*.gif")}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/gif" in data:
                name, words = names[b64decode(data["image/gif"])], output.metadata["image/gif"]["alt"]
                output.data = {"text/markdown": f"![{words}]({showcase}/{name})", "text/plain": words}
                output.metadata = {}
            elif "image/png" in data:
                for kind in ("text/html", WIDGET_VIEW):
                    data.pop(kind, None)


if __name__ == "__main__":
    main(sys.argv[1])
