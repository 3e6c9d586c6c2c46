"""What a reader hears who cannot see: words for every picture, headings in order, tables with heads; and colours."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_ablation import made_up_row

from conftest import FIRST_LOOK, NOTEBOOKS, PAGES
from gan_utils import PROJECT_FOLDER
from gan_utils.ablation import show_ablation
from gan_utils.plots import plot_history, plot_losses, plot_spectra, plot_ssim
from gan_utils.run_folder import read_history

TEXTS = [*PAGES, FIRST_LOOK, *NOTEBOOKS]
IDS = [str(path.relative_to(PROJECT_FOLDER)) for path in TEXTS]


class ImageTags(HTMLParser):
    """Collects the `alt` of every <img>; None where there is none."""

    def __init__(self, text):
        super().__init__()
        self.words = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.words.append(dict(attributes).get("alt"))


def words_of_pictures(text):
    """The alt texts of all pictures in Markdown or HTML."""
    return re.findall(r"!\[([^\]]*)\]\(", text) + ImageTags(text).words


def says_something(words):
    """Whether it is a sentence rather than nothing, one word or the name of a file."""
    return words is not None and len(words.split()) >= 4


def headings(text):
    return [len(signs) for signs in re.findall(r"^(#{1,6}) ", text, re.MULTILINE)]


def in_order(levels):
    return levels[:1] == [1] and levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def heads_of_tables(text):
    """The cells of the first line of each table."""
    lines = text.splitlines()
    rulers = [number for number, line in enumerate(lines) if re.fullmatch(r"\|( *:?-+:? *\|)+", line)]
    return [[cell.strip() for cell in lines[number - 1].strip()[1:-1].split("|")] for number in rulers]


def markdown_of(path):
    """All that is written as Markdown on a page or in a notebook, without its blocks of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def outputs_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def words_among_outputs(path):
    """The alt texts of all pictures that a notebook shows."""
    words = []
    for output in outputs_of(path):
        for kind, content in output.get("data", {}).items():
            if kind.startswith("image/"):
                words.append(output.metadata.get(kind, {}).get("alt"))
            elif kind.startswith("text/"):
                words.extend(words_of_pictures(content))
    return words


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_every_picture_on_a_page_has_words(path):
    assert [words for words in words_of_pictures(markdown_of(path)) if not says_something(words)] == []


@pytest.mark.parametrize("path", TEXTS[len(PAGES) :], ids=IDS[len(PAGES) :])
def test_every_picture_among_the_outputs_has_words(path):
    words = words_among_outputs(path)
    assert words
    assert [each for each in words if not says_something(each)] == []


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_headings_are_in_order(path):
    assert in_order(headings(markdown_of(path))), headings(markdown_of(path))


@pytest.mark.parametrize("path", TEXTS, ids=IDS)
def test_every_column_of_a_table_has_a_head(path):
    texts = [markdown_of(path)]
    if path.suffix == ".ipynb":
        texts += [output.get("data", {}).get("text/markdown", "") for output in outputs_of(path)]
    assert [head for text in texts for head in heads_of_tables(text) if not all(head)] == []


def test_faults_are_found():
    assert words_of_pictures('![](a.png) <img src="b.png"> ![A brain](c.png) <img alt="d" src="d.png">') == [
        "",
        "A brain",
        None,
        "d",
    ]
    assert not says_something("image.png")
    assert not in_order([1, 3])
    assert not in_order([1, 2, 1])
    assert not in_order([])
    assert in_order([1, 2, 3, 2])
    assert heads_of_tables("| | a |\n| --- | --- |\n| 1 | 2 |") == [["", "a"]]


def test_no_cell_of_the_ablation_is_empty():
    lines = show_ablation([made_up_row("baseline") | {"changed": {}}]).data.splitlines()
    assert [line for line in lines if re.search(r"\|\s*\|", line)] == []


@pytest.fixture
def graphs(tmp_path, close_figures):
    """One of each graph that has lines, from made-up values."""
    (tmp_path / "history.csv").write_text(
        "epoch,generator_loss,discriminator_loss,ssim,diversity_ratio,high_frequency_ratio,nearest_ratio,swd,swd_real,"
        "seconds\n1,0.7,1.4,0.1,0.3,2,1,40,9,5\n2,0.9,1.2,0.1,1,1,1,20,9,13\n"
    )
    (tmp_path / "step_losses.csv").write_text("step,generator_loss,discriminator_loss\n1,0.7,1.4\n2,0.9,1.1\n")
    history, noise = read_history(tmp_path), np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1))
    step_losses = np.genfromtxt(tmp_path / "step_losses.csv", delimiter=",", names=True)
    return [
        plot_losses(history),
        plot_history(history),
        plot_losses(step_losses),
        plot_ssim(history, {"black": (0.1, 0), "mean": (0.2, 0), "held-out": (0.3, 0.1)}, "SSIM"),
        plot_spectra(dict.fromkeys(("generated", "held-out", "training"), noise)),
    ]


def test_lines_differ_in_more_than_colour(graphs):
    for axis in (axis for figure in graphs for axis in figure.axes):
        named = [line for line in axis.lines if not line.get_label().startswith("_")]
        looks = [(line.get_linestyle(), line.get_marker()) for line in named]
        assert len(set(looks)) == len(looks), [line.get_label() for line in named]


def contrast(colour):
    """Of a colour on white, as WCAG 2 has it: 1 (none) to 21 (black)."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)


def test_lines_and_texts_stand_out_from_white(graphs):
    assert contrast("white") == pytest.approx(1)
    assert contrast("black") == pytest.approx(21)
    for axis in (axis for figure in graphs for axis in figure.axes):
        named = [line for line in axis.lines if not line.get_label().startswith("_")]
        assert all(contrast(line.get_color()) >= 3 for line in named)  # WCAG 2.2, 1.4.11
        assert all(contrast(text.get_color()) >= 4.5 for text in axis.texts)  # 1.4.3
