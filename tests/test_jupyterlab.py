"""Notebooks 00-05 as a newcomer meets them: in JupyterLab as `make lab` starts it, in a real browser.

The browser is the system's chromium, driven through Playwright. The pictures it takes of every notebook stay in
.pytest_cache/d/screenshots.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections import namedtuple

import nbformat
import playwright.sync_api
import psutil
import pytest

from conftest import FIRST_LOOK, NOTEBOOKS
from gan_utils import PROJECT_FOLDER
from scripts.run_notebooks import is_tensorflow_log

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EPOCHS = 4  # so that the display of training and the GIF have something to show
SECONDS_TO_START = 120
SECONDS_A_NOTEBOOK = 600  # only so that it ends at all where something hangs

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: install it, on Debian with 'apt-get install chromium'"),
    pytest.mark.skipif(not shutil.which("make"), reason="no make: JupyterLab is started by 'make lab'"),
]

# JupyterLab is not to write into the checkout, nor to ask for news from the network in front of the notebook.
LAB_SETTINGS = {
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"scrollPastEnd": False},  # no blank screenshots
}

# Runs the open notebook and returns its cells. Meanwhile every change of what the training cell shows is kept: for each
# of its outputs the texts, or the addresses of the pictures, in the order in which they stood there.
RUN_ALL_CELLS = """
async (seconds) => {
  const panel = jupyterapp.shell.currentWidget;
  const run = async () => {
    await panel.context.ready;
    await panel.sessionContext.ready;
    const training = panel.content.widgets.find(cell => cell.model.sharedModel.getSource().includes("model.fit("));
    const shown = [];
    const watch = () => training.node.querySelectorAll(".jp-OutputArea-output").forEach((output, number) => {
      const content = output.querySelector("img")?.src ?? output.textContent;
      shown[number] ??= [];
      if (shown[number].at(-1) !== content) shown[number].push(content);
    });
    if (training) new MutationObserver(watch).observe(training.node, {childList: true, subtree: true});
    await jupyterapp.commands.execute("notebook:run-all-cells");
    return {cells: panel.content.model.sharedModel.toJSON().cells, shown};
  };
  const end = new Promise((_, fail) => setTimeout(() => fail(`not done after ${seconds} s`), 1000 * seconds));
  return await Promise.race([run(), end]);
}
"""

# Also of what stands in the text, but the words are those of the outputs. decode() fails where there is no picture, or
# half of one.
ALTS_OF_PICTURES = """
async () => {
  const pictures = [...document.querySelectorAll(".jp-Notebook img")];
  for (const picture of pictures)
    await picture.decode().catch(() => { throw `no picture: ${picture.src.slice(0, 100)} ${picture.alt}` });
  return [...document.querySelectorAll(".jp-OutputArea-output img")].map(picture => picture.alt);
}
"""

COUNT_FRAMES = """
async (gif) => {
  const decoder = new ImageDecoder({data: (await fetch(gif.src)).body, type: "image/gif"});
  await decoder.completed;
  return decoder.tracks.selectedTrack.frameCount;
}
"""

SCROLL = """
() => {
  const panel = document.querySelector(".jp-WindowedPanel-outer");
  const before = panel.scrollTop;
  panel.scrollTop += panel.clientHeight - 60;
  return panel.scrollTop > before;
}
"""

Lab = namedtuple("Lab", ["address", "token", "log"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it; it and its kernels are gone afterwards."""
    folder = tmp_path_factory.mktemp("lab")
    write_lab_settings(folder / "config" / "lab" / "user-settings" / "@jupyterlab")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", "token-of-this-test", folder / "log.txt")
    with open(lab.log, "w") as log:
        environment = lab_environment(folder, lab.token)
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = psutil.Popen(make_lab(port), cwd=PROJECT_FOLDER, env=environment, **streams)
    try:
        wait_for_answer(port, lab, process)
        yield lab
    finally:
        end_with_children(process)


def write_lab_settings(folder):
    for name, values in LAB_SETTINGS.items():
        path = folder / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(values))


def make_lab(port):
    """The command. Python is the one that runs the tests, be it in .venv or not, and nothing is to be installed."""
    options = (
        f"--no-browser --ip=127.0.0.1 --port={port} --ServerApp.port_retries=0 --LabApp.expose_app_in_browser=True "
        "--allow-root"  # in a container there may be no one else
    )
    choices = "EXPERIMENT=brain", "PROFILE=smoke", "RECIPE=baseline", "DATA=phantoms", f"SETTINGS=epochs={EPOCHS}"
    installed = "GPU=", "VENV=.venv", "--old-file=.venv/installed", f"RUN_PYTHON={shlex.quote(sys.executable)}"
    return ["make", "lab", *choices, *installed, f"LAB_OPTIONS={options}"]


def lab_environment(folder, token):
    """Nothing of the user's own Jupyter, nor of the `make` that may have started the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MAKE", "MFLAGS"))}
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    places |= {"IPYTHONDIR": "ipython", "GAN_OUTPUT": "runs"}
    return {**kept, **{name: str(folder / place) for name, place in places.items()}, "JUPYTER_TOKEN": token}


def wait_for_answer(port, lab, process):
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.2)
    pytest.fail(f"JupyterLab does not answer. It said:\n{lab.log.read_text()}")


def end_with_children(process):
    """Kernels are in sessions of their own, so that no signal to a group of processes would reach them."""
    if process.poll() is not None:
        return
    family = [*process.children(recursive=True), process]
    for end in ("terminate", "kill"):
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(member, end)()
        _, family = psutil.wait_procs(family, timeout=10)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, lab):
    page = browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(1000 * SECONDS_TO_START)
    yield page
    print(*lab.log.read_text().splitlines()[-40:], sep="\n")  # which pytest shows where the test failed
    with contextlib.suppress(playwright.sync_api.Error):
        page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


@pytest.fixture
def complaints(page):
    """What goes wrong behind the page: errors of its scripts, and files that the server does not have."""
    found = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("response", lambda answer: found.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
    return found


@pytest.fixture
def screenshots(request):
    return request.config.cache.mkdir("screenshots")


def open_notebook(page, lab, path):
    """The first one opens by itself."""
    place = "" if path == FIRST_LOOK else f"lab/tree/notebooks/{path.name}"
    page.goto(f"{lab.address}/{place}?reset&token={lab.token}")
    page.wait_for_function(
        "name => window.jupyterapp?.shell.currentWidget?.context?.path === name", arg=f"notebooks/{path.name}"
    )


def photograph(page, screenshots, name):
    """One picture a screenful, from top to bottom."""
    for old in screenshots.glob(f"{name}_*.png"):
        old.unlink()
    page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
    number, goes_on = 1, True
    while goes_on:
        page.wait_for_timeout(100)  # cells are drawn once they are in sight
        page.screenshot(path=screenshots / f"{name}_{number:02d}.png")
        number, goes_on = number + 1, page.evaluate(SCROLL)


@pytest.mark.parametrize("path", [FIRST_LOOK, *NOTEBOOKS], ids=lambda path: path.stem)
def test_notebook_runs_and_shows_its_pictures(page, complaints, lab, screenshots, path):
    committed = path.read_bytes()
    open_notebook(page, lab, path)
    try:
        ran = page.evaluate(RUN_ALL_CELLS, SECONDS_A_NOTEBOOK)
        alts = page.evaluate(ALTS_OF_PICTURES)
    finally:
        photograph(page, screenshots, path.stem)
    cells = [nbformat.from_dict(cell) for cell in ran["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error"] == []
    assert [output for output in outputs if output.get("name") == "stderr" and not is_tensorflow_log(output)] == []
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert len(alts) == len([output for output in outputs if {"image/png", "image/gif"} & {*output.get("data", ())}])
    assert all(alts)
    assert checked_texts(cells) == checked_texts(nbformat.read(path, as_version=4).cells)
    if path.stem == "03_train":
        check_display_of_training(ran["shown"])
        check_gif(page)
    assert complaints == []
    assert path.read_bytes() == committed


def test_sliders_walk_and_quiz_of_the_first_look_answer(page, complaints, lab, screenshots):
    open_notebook(page, lab, FIRST_LOOK)
    page.evaluate(RUN_ALL_CELLS, SECONDS_A_NOTEBOOK)
    for name in ("brain", "size", "level", "ventricles", "brightness", "degrees"):
        slider = page.locator(".widget-slider", has_text=name).locator(".noUi-handle")
        picture = panel_with(page, name).locator("img")
        assert name in changes(picture, lambda slider=slider: slider.press("ArrowRight"))
    panel_with(page, "ventricles").screenshot(path=screenshots / "00_first_look_sliders.png")
    play, degrees = (panel_with(page, "degrees").locator(part) for part in (".widget-play button", "img"))
    changes(degrees, play.first.click)
    play.first.click()
    quiz = panel_with(page, "generated")
    for asked, name in enumerate(("phantom", "generated"), start=1):
        changes(quiz.locator("img"), quiz.get_by_role("button", name=name, exact=True).click, "src")
        quiz.get_by_text(re.compile(f"(0|1|2) of {asked} right")).wait_for()
    quiz.screenshot(path=screenshots / "00_first_look_quiz.png")
    assert complaints == []


def panel_with(page, words):
    return page.locator(".jp-OutputArea-output .widget-hbox:has(> .widget-vbox)", has_text=words)


def changes(picture, act, attribute="alt"):
    """Do something that changes a picture; returns what its attribute says then."""
    picture.scroll_into_view_if_needed()
    before = [picture.get_attribute("src"), picture.get_attribute(attribute)]
    act()
    end = time.monotonic() + SECONDS_TO_START
    while (after := [picture.get_attribute("src"), picture.get_attribute(attribute)]) and before[0] == after[0]:
        assert time.monotonic() < end, "the picture stays as it was"
        time.sleep(0.01)
    assert after[1] != before[1]
    return after[1]


def checked_texts(cells):
    """What the cells show whose output nbval compares."""
    checked = [cell for cell in cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    outputs = [output for cell in checked for output in cell.outputs]
    return "".join(
        output.get("text") or output.data.get("text/markdown", output.data["text/plain"]) for output in outputs
    )


def check_display_of_training(shown):
    """The line of progress, the grid of images and the graphs were overwritten in place."""
    pictures = [contents for contents in shown if contents[0].startswith("data:image/")]
    lines = [contents for contents in shown if contents[0].startswith(f"epoch 1 of {EPOCHS}")]
    assert len(lines) == 1
    assert len(pictures) == 2  # and not two an epoch
    assert min(len(contents) for contents in lines + pictures) > 1


def check_gif(page):
    gif = page.locator(".jp-OutputArea-output img[src^='data:image/gif']")
    assert gif.evaluate(COUNT_FRAMES) == 1 + EPOCHS  # the last one first
    gif.scroll_into_view_if_needed()
    first = gif.screenshot()
    end = time.monotonic() + 10  # a frame lasts 0.6 s, the last one two
    while gif.screenshot() == first:
        assert time.monotonic() < end, "the GIF stands still"
