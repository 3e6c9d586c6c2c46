"""The command behind `make runs`."""

import subprocess
import sys

import imageio.v3 as imageio
import pytest
import tensorflow as tf

from conftest import make_oasis_folder
from gan_utils import PROJECT_FOLDER, data, read_json
from gan_utils.gan import build_gan
from gan_utils.run_folder import save_results, training
from gan_utils.settings import choose_settings
from scripts.runs import changes_to_preset
from scripts.train import fit

pytestmark = pytest.mark.slow


def list_runs(output, *names):
    command = [sys.executable, "-m", "scripts.runs", "--settings", f"output={output}", *names]
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_FOLDER)


def own_loss(real_logits, fake_logits):
    return tf.reduce_mean((fake_logits - 1) ** 2)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A run, an archived one with other settings, and one of the other recipe and a loss of its own."""
    folder = tmp_path_factory.mktemp("runs")
    slices = make_oasis_folder(folder.parent / "slices_of_runs")
    for recipe, changes, losses in (
        ("baseline", {"filters": 6}, {}),
        ("baseline", {}, {}),
        ("improved", {}, {"generator_loss": own_loss}),
    ):
        settings = choose_settings(
            "brain", "smoke", recipe, slices, output=str(folder), batch_size=4, epochs=1, **changes
        )
        splits, model = data.load(settings), build_gan(settings, **losses)
        with training(settings, splits, model) as (place, done):
            fit(model, settings, splits, place, done)
    save_results(folder / "brain-improved-smoke", swd=12.3456, ssim={"published_max": 1})
    return folder


def test_runs_are_listed_with_what_they_change_and_how_they_came_out(output):
    lines = list_runs(output).stdout.splitlines()
    assert lines[0].split()[:3] == ["run", "epochs", "changed"]
    assert list_runs(output, "--settings", f"output={output} minibatch_std=True").stdout.splitlines() == lines
    first, archived, improved = lines[1:4]
    assert first.split()[:4] == ["brain-baseline-smoke", "1", "of", "1"]
    assert " ~" in first
    assert archived.startswith("brain-baseline-smoke-2")
    assert ("filters=6" in archived, "filters" in first) == (True, False)
    assert "batch_size=4" in first
    assert "epochs=1" in first
    assert "12.3" in improved
    assert "generator_loss of its own" in improved
    assert "discriminator_loss" not in improved
    assert "of its own" not in first


def test_two_runs_are_put_side_by_side(output):
    shown = list_runs(output, "brain-baseline-smoke", "brain-improved-smoke").stdout
    assert "Between them: recipe was baseline, is improved; " in shown
    picture = output / "brain-baseline-smoke_beside_brain-improved-smoke.png"
    assert str(picture) in shown
    assert imageio.imread(picture).shape[1] > 1000


@pytest.mark.parametrize(
    ("names", "said"),
    [(["brain-baseline-smoke"], "Name two runs"), (["brain-baseline-smoke", "typo"], "There is no run in")],
)
def test_names_that_do_not_fit_are_refused(names, said, output):
    ended = list_runs(output, *names)
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_runs_yet(tmp_path):
    assert "No runs in" in list_runs(tmp_path).stderr


@pytest.mark.parametrize("run", ["brain-baseline-quick", "brain-improved-quick", "knee-improved-quick"])
def test_losses_that_nobody_touched_are_no_change(run):
    notes = read_json(PROJECT_FOLDER / "epoch_images" / "showcase" / run / "run.json")
    assert changes_to_preset(notes) == "data=phantoms"
    notes["model"]["generator_loss"] = ["def least_squares(real_logits, fake_logits):"]
    assert changes_to_preset(notes) == "data=phantoms, generator_loss of its own"
