"""Notebook 0: what ships with it, that its sliders do what they are called, and that it is quick.

In a browser: tests/test_jupyterlab.py.
"""

import json
import os
import re
import time
from math import comb

import imageio.v3 as imageio
import ipywidgets as widgets
import nbformat
import numpy as np
import pytest

from conftest import FIRST_LOOK
from gan_utils import PROJECT_FOLDER, play, read_json
from gan_utils.networks import generate_images, load_network
from gan_utils.run_folder import read_history
from scripts import publish_first_look
from scripts.publish_first_look import executed, held_out, phantom_sheet

FOLDER = FIRST_LOOK.with_name("first_look")
SHOWCASE = PROJECT_FOLDER / "epoch_images" / "showcase" / "brain-improved-full-phantoms"
SECONDS = 40  # of computing, also on a slow machine; fifteen on ours, four of them to import TensorFlow
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generator():
    return load_network(FOLDER / "generator.keras")


@pytest.fixture(scope="module")
def notebook():
    """The variables of notebook 0 after its last cell."""
    variables = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(FIRST_LOOK.parent)
        for cell in nbformat.read(FIRST_LOOK, as_version=4).cells:
            if cell.cell_type == "code":
                exec(cell.source, variables)
    return variables


# ---- what ships -----------------------------------------------------------------------------------------


def test_what_ships_is_there_and_light():
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.is_file()}
    assert sizes.keys() == {"generator.keras", "phantoms.png", "run.json", "README.md"}
    assert max(sizes.values()) < 4e6
    assert FIRST_LOOK.stat().st_size < 400_000


def test_generator_is_of_the_run_on_show_on_phantoms_alone():
    notes, shown = read_json(FOLDER / "run.json"), read_json(SHOWCASE / "run.json")
    for name in ("started", "commit", "model", "images_seen"):
        assert notes[name] == shown[name]
    assert notes["data"]["simulated"] is True


def test_generator_makes_the_images_that_its_run_did(generator):
    settings = read_json(FOLDER / "run.json")["settings"]
    latents = np.random.default_rng(settings["seed"]).standard_normal((16, settings["latent_dim"]), "float32")
    size = settings["image_size"]
    shown = imageio.imread(SHOWCASE / "example_output.png")[:size, :size]
    made = play.grey_levels(generate_images(generator, latents)[0, ..., 0])
    assert np.abs(made.astype(float) - shown).mean() < 1


def test_card_says_what_was_done(generator):
    notes = read_json(FOLDER / "run.json")
    processor_seconds = read_history(SHOWCASE)["processor_seconds"][-1]
    settings, subjects = notes["settings"], held_out(notes)[0]
    size = settings["image_size"]
    facts = [
        f"{size}x{size} pixels, {generator.count_params():,} weights; input: {settings['latent_dim']} standard normal",
        f"({subjects[0]} to {subjects[-1]})",
        f"seed {settings['seed']}",
        f"{settings['filters']} filters; {settings['loss']} loss",
        f"{notes['data']['slices']['train']:,} slices of {notes['data']['people']['train']} phantom subjects",
        f"{notes['images_seen']:,} ({notes['epochs_done']} epochs of {settings['steps_per_epoch']} steps of "
        f"{settings['batch_size']} images), in {processor_seconds / 60:.0f} minutes of one core",
    ]
    assert [fact for fact in facts if fact not in CARD] == []


def test_sheet_is_of_subjects_that_were_held_out():
    notes = read_json(FOLDER / "run.json")
    subjects, size = held_out(notes)
    assert min(subjects) > notes["data"]["people"]["train"]  # numbered from 1, training first
    sheet = imageio.imread(FOLDER / "phantoms.png")
    assert (sheet.shape, sheet.dtype) == ((4 * size, 8 * size), np.uint8)
    again = phantom_sheet(subjects[2:3], size)
    assert np.abs(again.astype(float) - sheet[2 * size : 3 * size]).mean() < 0.5  # rounding of another processor


def test_sheet_is_read_row_by_row(tmp_path):
    sheet = np.kron(np.arange(6).reshape(2, 3) * 51, np.ones((4, 4))).astype(np.uint8)
    imageio.imwrite(tmp_path / "sheet.png", sheet)
    images = play.read_sheet(tmp_path / "sheet.png", columns=3)
    assert images.shape == (6, 4, 4, 1)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), np.arange(6) * 0.4 - 1, atol=1e-6)


def test_publishing_refuses_real_scans(tmp_path, monkeypatch):
    folder = tmp_path / "epoch_images" / "brain-improved-full"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"data": {"simulated": False}}))
    monkeypatch.setattr(publish_first_look, "PROJECT_FOLDER", tmp_path)
    with pytest.raises(SystemExit, match="real scans: not published"):
        publish_first_look.main("brain-improved-full")


# ---- the notebook ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_notebook_runs_quickly_and_leaves_still_pictures():
    before = os.times()
    ran = executed(FIRST_LOOK)
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < SECONDS
    committed = nbformat.read(FIRST_LOOK, as_version=4)
    for one in (ran, committed):
        assert "widgets" not in one.metadata
        outputs = [output for cell in one.cells for output in cell.get("outputs", [])]
        assert [output for output in outputs if output.get("name") == "stderr"] == []
        pictures = [output.data for output in outputs if "image/png" in output.get("data", {})]
        assert len(pictures) == 6
        assert all(data.keys() == {"image/png", "text/plain"} for data in pictures)


def test_each_slider_changes_what_it_is_called(notebook):
    """Of other brains: its own measurement by about as many standard deviations, the others by clearly less."""
    latents = np.random.default_rng(7).standard_normal((200, 100))
    spread = {name: np.std(values) for name, values in notebook["measured"].items()}
    for number, name in enumerate(notebook["measured"]):
        sides = [measure(notebook, latents + step * notebook["directions"][number]) for step in (-1.5, 1.5)]
        changes = {each: np.mean(sides[1][each] - sides[0][each]) / spread[each] / 3 for each in spread}
        assert 0.3 < changes.pop(name) < 1.5
        assert max(map(abs, changes.values())) < 0.4


def measure(notebook, latents):
    """The notebook's own cell of measurements, on images of these latents."""
    (source,) = (cell.source for cell in nbformat.read(FIRST_LOOK, as_version=4).cells if "measured = {" in cell.source)
    variables = {**notebook, "generated": generate_images(notebook["generator"], latents)}
    exec(source, variables)
    return variables["measured"]


def test_walk_ends_where_it_starts_and_keeps_the_length_of_latents(notebook):
    walk = np.stack([notebook["on_circle"](place) for place in range(0, 361, 10)])
    np.testing.assert_allclose(walk[0], walk[-1], atol=1e-12)
    assert np.linalg.norm(walk, axis=1) == pytest.approx(10, abs=1.5)


def test_words_quote_the_two_sample_test_of_the_run():
    results = read_json(SHOWCASE / "results.json")
    text = "".join(cell.source for cell in nbformat.read(FIRST_LOOK, as_version=4).cells)
    right, of_real = (100 * results[f"two_sample_accuracy{kind}"] for kind in ("", "_real"))
    assert f"right for {right:.0f} % of 512 images ({of_real:.0f} % where other phantoms" in text
    assert of_real < 50  # which the text explains


def test_lines_of_code_fit_into_a_cell():
    cells = [cell.source for cell in nbformat.read(FIRST_LOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [line for source in cells for line in source.splitlines() if len(line) > 88] == []


# ---- widgets --------------------------------------------------------------------------------------------


def parts(live, kind):
    """The widgets of a kind, from left to right and from top to bottom."""
    found, places = [], [live.widget]
    while places:
        place = places.pop(0)
        found += [place] if isinstance(place, kind) else []
        places = [*getattr(place, "children", ()), *places]
    return found


def test_a_slider_changes_the_picture_at_once(generator):
    latents = np.random.default_rng(0).standard_normal((5, 100))
    live = play.show_sliders(generator, lambda number, more: latents[number] + more, number=(0, 4, 3), more=(-1.0, 1.0))
    number, more = parts(live, (widgets.IntSlider, widgets.FloatSlider))
    (picture,) = parts(live, widgets.HTML)
    assert (number.value, more.value, number.max, more.min) == (3, 0, 4, -1)
    seconds = []
    for step in range(20):
        before, start = picture.value, time.perf_counter()
        number.value = step % 2
        seconds.append(time.perf_counter() - start)
        assert picture.value != before
    assert min(seconds) < 0.05
    more.value = 0.5
    assert 'alt="A generated image, number 1, more 0.5"' in picture.value


def test_play_moves_its_slider(generator):
    live = play.show_sliders(generator, lambda place: np.full(100, place), plays="place", place=(0, 9))
    (button,), (moved,) = parts(live, widgets.Play), parts(live, widgets.IntSlider)
    button.value = 6
    assert moved.value == 6
    moved.value = 2
    assert button.value == 2


def test_widget_comes_with_a_still_picture(generator):
    live = play.show_sliders(generator, lambda number: np.full(100, 0.1 * number), number=(0, 4))
    data, metadata = live._repr_mimebundle_()
    assert {play.WIDGET_VIEW, "image/png", "text/html", "text/plain"} == data.keys()
    assert data["text/plain"] == metadata["image/png"]["alt"] == "A generated image, number 0"
    assert data["text/html"] in parts(live, widgets.HTML)[0].value


def test_quiz_counts():
    sets = {"black": np.full((2, 8, 8, 1), -1.0), "white": np.full((3, 8, 8, 1), 1.0)}
    quiz = play.Quiz(sets, seed=0)
    buttons = {button.description: button for button in parts(quiz, widgets.Button)}
    assert buttons.keys() == sets.keys()
    asked = []
    for _ in range(8):
        asked.append(quiz.name)
        buttons[quiz.name].click()
    assert {*asked} == {*sets}
    assert f"Yes, that was: {asked[-1]}.<br><b>8 of 8 right.</b>" in quiz.score.value
    wrong, right = sorted(sets, key=lambda name: name == quiz.name)
    buttons[wrong].click()
    assert f"No, that was: {right}.<br><b>8 of 9 right.</b>" in quiz.score.value
    chance = (comb(9, 8) + 1) / 2**9
    assert f"A coin does at least as well in {chance:.0%} of such games" in quiz.score.value


def test_quiz_does_not_give_the_answer_away():
    sets = {"black": np.full((1, 8, 8, 1), -1.0), "white": np.full((1, 8, 8, 1), 1.0)}
    quiz = play.Quiz(sets)
    assert re.search('alt="([^"]+)"', quiz.picture.value)[1] == "An image: black or white?"


@pytest.mark.parametrize(("right", "asked", "chance"), [(0, 5, 1), (5, 5, 1 / 32), (3, 4, 5 / 16), (1, 1, 0.5)])
def test_chance_of_a_coin(right, asked, chance):
    assert play.as_well_by_chance(right, asked) == pytest.approx(chance)
