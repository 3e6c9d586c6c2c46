"""The drawings of the game and of networks: all is in them, nothing overlaps, and all can be read."""

import itertools
import re

import keras
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from test_accessibility import contrast

from gan_utils import networks
from gan_utils.diagrams import GAME, describe_network, layer_name, plot_game, plot_network, stages

pytestmark = pytest.mark.usefixtures("close_figures")

BUILDERS = {
    name: getattr(networks, name) for name in dir(networks) if re.match("build_.+(generator|discriminator)$", name)
}
NETWORKS = {f"{name}({size})": (build, size) for name, build in BUILDERS.items() for size in (None, 64, 256)}


def build(name):
    """As published, or of another size."""
    builder, size = NETWORKS[name]
    if size is None:
        return builder()
    return builder(size, generator_input_dim=4) if "generator" in name else builder(size)


def texts_of(figure):
    """(text, its box on the screen) of all that is written."""
    figure.canvas.draw()
    return [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts if text.get_text()]


def overlapping(boxes):
    """The words whose boxes share more than a pixel's edge."""
    pairs = itertools.combinations(boxes, 2)
    return [
        (first, second)
        for (first, a), (second, b) in pairs
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 0 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0
    ]


def outside(figure, boxes):
    width, height = figure.canvas.get_width_height()
    return [words for words, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]


def as_one_line(text):
    return " ".join(text.split())


def test_all_builders_are_found():
    assert len(BUILDERS) == 6


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_drawn_with_its_shape(name):
    network = build(name)
    figure = plot_network(network)
    boxes = texts_of(figure)
    assert overlapping(boxes) == []
    assert outside(figure, boxes) == []
    columns = np.array_split([as_one_line(words) for words, _ in boxes[:-3]], len(boxes) // 3 - 1)
    drawn = iter(network.layers)
    for shape, layers, weights in columns:
        names, numbers = [], 0
        while " ".join(names) != layers:
            layer = next(drawn)
            names.append(layer_name(layer))
            numbers += layer.count_params()
            *pixels, channels = layer.output.shape[1:]
            assert shape == " ".join([*["x".join(f"{side:,}" for side in pixels)] * bool(pixels), f"{channels:,}"])
        assert weights == f"{numbers:,}"
    assert list(drawn) == []
    assert sum(int(weights.replace(",", "")) for *_, weights in columns) == network.count_params()


@pytest.mark.parametrize("name", BUILDERS)
def test_boxes_follow_pixels_and_channels(name):
    found = stages(network := BUILDERS[name]())
    boxes = [patch for patch in plot_network(network).axes[0].patches if isinstance(patch, Rectangle)]
    assert len(boxes) == len(found)
    for (first, one), (second, other) in itertools.combinations(zip(found, boxes, strict=True), 2):
        sizes = [shape[0] if len(shape) > 1 else 1 for shape, _ in (first, second)]
        assert np.sign(sizes[0] - sizes[1]) == np.sign(round(one.get_height() - other.get_height(), 9))
        channels = first[0][-1] - second[0][-1]
        assert np.sign(channels) == np.sign(round(one.get_width() - other.get_width(), 9))
    edges = [(box.get_x(), box.get_x() + box.get_width()) for box in boxes]
    assert all(left[1] < right[0] for left, right in itertools.pairwise(edges))


@pytest.mark.parametrize("name", BUILDERS)
def test_words_name_every_stage(name):
    network = BUILDERS[name]()
    words = describe_network(network)
    assert words.startswith("A network, from left to right: ")
    assert words.count(";") == len(stages(network)) - 1
    places = [words.index(layer_name(layer)) for layer in network.layers]
    assert places[0] == min(places)


def test_ones_own_layers_are_named():
    class SpotlightOnEdges(keras.layers.Layer):
        def call(self, images):
            return images

    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, (3, 5), activation="relu")(images)
    x = keras.layers.ReLU()(SpotlightOnEdges()(keras.layers.Dropout(0.25)(x)))
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    names = [layer_name(layer) for layer in network.layers]
    assert names[1:5] == ["convolution 3x5, ReLU", "dropout 0.25", "spotlight on edges", "ReLU"]
    assert "anyxanyx4 (convolution 3x5, ReLU, dropout 0.25" in describe_network(network)
    boxes = texts_of(plot_network(network))
    assert overlapping(boxes) == []


def test_game_shows_who_gets_and_who_learns():
    figure = plot_game()
    boxes = texts_of(figure)
    assert overlapping(boxes) == []
    assert outside(figure, boxes) == []
    words = as_one_line(" ".join(text for text, _ in boxes))
    for part in (
        *("latents", "generator makes images", "generated images", "real images", "discriminator looks at both"),
        *("real or generated?", "learns from the answers to its own images", "learns from all answers"),
    ):
        assert part in words
    assert all(word in GAME for word in ("Latents", "generator", "discriminator", "real images", "learn"))


def test_words_of_the_game_are_inside_their_boxes():
    figure = plot_game()
    boxes = texts_of(figure)
    frames = [each.get_window_extent() for each in figure.axes[0].patches if isinstance(each, FancyBboxPatch)]
    frames = [frame for frame in frames if frame.width > 60]  # arrows are patches, too
    assert len(frames) == 6
    inside = [
        words
        for words, box in boxes
        if any(f.x0 < box.x0 and box.x1 < f.x1 and f.y0 < box.y0 and box.y1 < f.y1 for f in frames)
    ]
    assert len(inside) == 12
    assert [words for words, _ in boxes if words not in inside and "learns" not in words] == []


def test_texts_stand_out_from_white():
    for figure in (plot_game(), plot_network(networks.build_knee_discriminator())):
        assert all(contrast(to_rgb(text.get_color())) >= 4.5 for text in figure.axes[0].texts)
