"""Widgets of notebook 0: sliders that change a generated image at once, and a quiz that counts."""

from io import BytesIO

import imageio.v3 as imageio
import ipywidgets as widgets
import numpy as np
from PIL import Image
from scipy.stats import binom

from gan_utils.plots import Picture, grey_levels

WIDTH = 320  # pixels on the screen; the browser enlarges the picture
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class Live:
    """A widget beside the picture that it starts with, which is shown where no widget runs, such as on GitHub."""

    def __init__(self, widget, still):
        self.widget, self.still = widget, still

    def _repr_mimebundle_(self, include=None, exclude=None):
        data, metadata = self.still._repr_mimebundle_()
        view = {WIDGET_VIEW: self.widget._repr_mimebundle_()[WIDGET_VIEW]}
        return view | data | {"text/plain": self.still.alt}, metadata


def read_sheet(path, columns=8):
    """The square images of a sheet without gaps, row by row: float32 (images, size, size, 1), -1..1."""
    sheet = imageio.imread(path).astype(np.float32) / 127.5 - 1
    size = sheet.shape[1] // columns
    return sheet.reshape(-1, size, columns, size).swapaxes(1, 2).reshape(-1, size, size, 1)


def picture_of(image, alt):
    """An image, float (height, width, 1), -1..1, as a `Picture`, so light that a slider can replace it at once."""
    file = BytesIO()
    Image.fromarray(grey_levels(np.asarray(image)[..., 0])).save(file, "PNG", compress_level=1)
    return Picture(file.getvalue(), alt, WIDTH)


def tag(picture):
    """The HTML of a `Picture`, in a black frame of fixed size: the next one comes without a flicker."""
    image = picture._repr_mimebundle_()[0]["text/html"]
    return f'<div style="width: {WIDTH}px; height: {WIDTH}px; background: black">{image}</div>'


def show_sliders(generator, latents_of, plays=None, **ranges):
    """Sliders, and the generated image that follows them at once.

    Args:
        generator: `keras.Model`, latents (images, latent_dim) -> images (images, height, width, 1), -1..1.
        latents_of: function that takes the sliders' values by their names and returns latents, (latent_dim,).
        plays: name of the slider that a play button can move.
        **ranges: (lowest, highest) of each slider, or (lowest, highest, first); between whole numbers it keeps to them.

    Example:
        >>> play.show_sliders(generator, lambda number: latents[number], number=(0, 9))
    """
    picture, sliders = widgets.HTML(), {name: slider(name, *limits) for name, limits in ranges.items()}

    def redraw(change=None):
        values = {name: each.value for name, each in sliders.items()}
        image = generator.predict_on_batch(np.asarray(latents_of(**values))[None])[0]
        drawn = picture_of(image, "A generated image, " + ", ".join(f"{name} {values[name]:g}" for name in values))
        picture.value = tag(drawn)
        return drawn

    for each in sliders.values():
        each.observe(redraw, "value")
    controls = [*sliders.values()]
    if plays:
        moved = sliders[plays]
        button = widgets.Play(min=moved.min, max=moved.max, step=3, interval=100, repeat=True, show_repeat=False)
        widgets.link((button, "value"), (moved, "value"))
        controls.insert(0, button)
    return Live(widgets.HBox([picture, widgets.VBox(controls)]), redraw())


def slider(name, lowest, highest, first=0):
    kind = widgets.IntSlider if isinstance(lowest, int) and isinstance(highest, int) else widgets.FloatSlider
    return kind(value=first, min=lowest, max=highest, description=name)


class Quiz(Live):
    """Which set is an image of? A button for each set of {name: images}; the score stands beside that of a coin."""

    def __init__(self, sets, seed=None):
        self.sets, self.rng = sets, np.random.default_rng(seed)
        self.right = self.asked = 0
        self.picture, self.score = widgets.HTML(), widgets.HTML("Nothing answered so far.")
        buttons = [widgets.Button(description=name) for name in sets]
        for button in buttons:
            button.on_click(lambda clicked: self.answer(clicked.description))
        super().__init__(widgets.HBox([self.picture, widgets.VBox([*buttons, self.score])]), self.ask())

    def ask(self):
        self.name = str(self.rng.choice(list(self.sets)))
        drawn = picture_of(self.rng.choice(self.sets[self.name]), f"An image: {' or '.join(self.sets)}?")
        self.picture.value = tag(drawn)
        return drawn

    def answer(self, name):
        right = name == self.name
        self.right, self.asked = self.right + right, self.asked + 1
        self.score.value = (
            f"{'Yes' if right else 'No'}, that was: {self.name}.<br><b>{self.right} of {self.asked} right.</b><br>"
            f"A coin does at least as well in {as_well_by_chance(self.right, self.asked):.0%} of such games."
        )
        self.ask()


def as_well_by_chance(right, asked):
    """How likely a coin has at least so many of the answers right, between two equally likely ones."""
    return binom.sf(right - 1, asked, 0.5)
