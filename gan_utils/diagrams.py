"""Drawings made by code: the game of the two networks, and any network with the shape behind each of its layers."""

import re
import textwrap

import keras
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

BLUE, ORANGE, GREY = "#0072b2", "#a84900", "0.35"  # the last two dark enough for text on white
GAME = "Latents enter the generator, which makes images. The discriminator gets these and real images, and answers: "
GAME += "real or generated? Both networks learn from the answers, the generator only from those to its own images."
NAMES = {"Conv2D": "convolution", "Conv2DTranspose": "transposed convolution", "MaxPooling2D": "max pooling"}
NAMES |= {"InputLayer": "input", "LeakyReLU": "LeakyReLU", "BatchNormalization": "batch normalisation"}
NAMES |= {"linear": "", "relu": "ReLU", "ReLU": "ReLU"}


def plot_game():
    """A figure of who gets what from whom, and who learns from what; `GAME` says it in words."""
    figure, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    axis.set(xlim=(0, 10), ylim=(-0.6, 3.7), aspect="equal")
    axis.axis("off")
    put_box(axis, 0.85, 2.3, "latents", "random numbers")
    put_box(axis, 2.95, 2.3, "generator", "makes images", BLUE)
    put_box(axis, 5, 2.3, "generated", "images")
    put_box(axis, 5, 0.55, "real", "images")
    put_box(axis, 7.05, 1.42, "discriminator", "looks at both", BLUE)
    put_box(axis, 9.15, 1.42, "answer", "real or generated?")
    to_images = (1.6, 2.3, 2.2, 2.3), (3.7, 2.3, 4.2, 2.3)
    to_answer = (5.8, 2.2, 6.3, 1.7), (5.8, 0.65, 6.3, 1.15), (7.8, 1.42, 8.4, 1.42)
    for *start, x, y in (*to_images, *to_answer):
        axis.annotate("", (x, y), start, arrowprops={"arrowstyle": "-|>", "color": "black"})
    own, all_of_them = "the answers to its own images: to be taken for real", "all answers:\nto tell them apart"
    learn(axis, [(9.15, 1.9), (9.15, 3.2), (2.95, 3.2), (2.95, 2.78)], own, (6.05, 3.26), "bottom")
    learn(axis, [(9.15, 0.94), (9.15, 0.15), (7.05, 0.15), (7.05, 0.94)], all_of_them, (8.1, 0.08), "top")
    figure.set_label(GAME)
    return figure


def put_box(axis, x, y, name, words, colour=GREY):
    """A box with a name and what it is or does; a network's is blue and has a thick edge."""
    edge = {"edgecolor": colour, "linewidth": 2.2 if colour == BLUE else 1}
    axis.add_patch(FancyBboxPatch((x - 0.72, y - 0.4), 1.44, 0.8, "round,pad=0.06", facecolor="white", **edge))
    axis.text(x, y + 0.2, name, size=10, weight="bold", color=colour, ha="center", va="center")
    axis.text(x, y - 0.16, textwrap.fill(words, 14), size=8, ha="center", va="center", linespacing=1.1)


def learn(axis, corners, words, place, side):
    """A dashed arrow along the corners, from an answer to the network that learns from it."""
    axis.plot(*np.transpose(corners), "--", color=ORANGE, linewidth=1.4)
    axis.annotate("", corners[-1], corners[-2], arrowprops={"arrowstyle": "-|>", "color": ORANGE})
    axis.text(*place, f"learns from {words}", size=9, color=ORANGE, ha="center", va=side)


def stages(network):
    """[(shape, layers)] of a Keras model: each layer that changes the shape starts a stage, the others follow it."""
    found = []
    for layer in network.layers:
        shape = tuple(layer.output.shape[1:])
        if not found or found[-1][0] != shape:
            found.append((shape, []))
        found[-1][1].append(layer)
    return found


def layer_name(layer):
    """What a layer does, in words: 'transposed convolution 4x4'."""
    kind, activation = type(layer).__name__, getattr(getattr(layer, "activation", None), "__name__", "linear")
    words = [] if kind == "Activation" else [NAMES.get(kind) or re.sub("(?<=[a-z])(?=[A-Z][a-z])", " ", kind).lower()]
    words += [f"{layer.rate:g}"] if isinstance(layer, keras.layers.Dropout) else []
    words += ["x".join(map(str, layer.kernel_size))] if hasattr(layer, "kernel_size") else []
    return ", ".join(filter(None, [" ".join(words), NAMES.get(activation, activation)]))


def written(sizes):
    return "x".join("any" if size is None else f"{size:,}" for size in sizes)


def describe_network(network):
    """A network in one sentence, for those who cannot see its drawing."""
    parts = [f"{written(shape)} ({', '.join(map(layer_name, layers))})" for shape, layers in stages(network)]
    return f"A network, from left to right: {'; '.join(parts)}"


def plot_network(network):
    """A figure of a Keras model, a box a stage: the higher, the more pixels a side; the wider, the more channels.

    Both are on logarithmic scales. Above each box stands the shape that it hands on, below it the layers that make it
    and how many weights they have; a stage without weights is hatched.
    """
    found = stages(network)
    column = np.clip(8 / len(found), 0.78, 0.9)  # inches; nearly all networks fit into a page of JupyterLab
    text = {"size": 9.6 * column, "linespacing": 1.05}
    figure, axis = plt.subplots(figsize=(column * (len(found) + 0.7), 3.6), layout="constrained")
    axis.set(xlim=(-1.15, len(found) - 0.45), ylim=(-3.6, 2.6))
    axis.axis("off")
    sizes, channels = [shape[0] or 1 if len(shape) > 1 else 1 for shape, _ in found], [shape[-1] for shape, _ in found]
    heights, widths = 3.2 * logarithmic(sizes), 0.8 * logarithmic(channels)
    for x, ((shape, layers), height, width) in enumerate(zip(found, heights, widths, strict=True)):
        weights = sum(layer.count_params() for layer in layers)
        colours = {"facecolor": BLUE if weights else "white", "edgecolor": BLUE, "hatch": "" if weights else "////"}
        axis.add_patch(Rectangle((x - width / 2, -height / 2), width, height, **colours))
        if x:
            axis.plot([x - 1 + widths[x - 1] / 2, x - width / 2], [0, 0], color=GREY, linewidth=0.8)
        axis.text(
            x, 1.8, written(shape[:-1]) + "\n" * (len(shape) > 1) + f"{shape[-1]:,}", **text, ha="center", va="bottom"
        )
        words = "\n".join(textwrap.fill(layer_name(layer), 13) for layer in layers)
        axis.text(x, -1.8, words, **text, ha="center", va="top")
        axis.text(x, -3.5, f"{weights:,}", **text, ha="center", va="bottom")
    for y, words, side in ((1.8, "pixels\nchannels", "bottom"), (-1.8, "layers", "top"), (-3.5, "weights", "bottom")):
        axis.text(-1.1, y, words, **text, va=side, weight="bold")
    figure.set_label(describe_network(network))
    return figure


def logarithmic(numbers):
    """1 or more -> above 0 to 1 for the largest."""
    return np.log2(2 * np.array(numbers)) / np.log2(2 * max(numbers))
