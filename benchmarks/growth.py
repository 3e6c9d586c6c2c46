"""How cost grows: images per second and memory over image size, batch size and number of images."""

import matplotlib.pyplot as plt
import numpy as np

SIZES = 64, 128, 256
BATCHES = 8, 16, 32, 64, 128
NUMBERS = 1_000, 5_000, 20_000
RECIPES = {"baseline": "o-", "improved": "s--"}


def training_on(number, recipe):
    """Steps of 16 out of so many images of 64 pixels, through the batches that notebook 3 trains on."""
    from benchmarks.training_steps import STEPS, settings_of
    from gan_utils.data import training_batches
    from gan_utils.gan import build_gan

    settings = settings_of("brain", 64, recipe)
    model = build_gan(settings)
    images = np.random.default_rng(1).integers(0, 256, (number, 64, 64, 1), dtype=np.uint8)
    batches = training_batches(images, settings)
    steps = STEPS[64]

    def work():
        model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return work, {"images": steps * settings.batch_size}


def groups():
    """{what varies: {its value: {recipe: contestant}}}; everything else is 64 pixels and batches of 16."""

    def step(recipe, size=64, batch=16):
        choice = {"experiment": "brain", "image_size": size, "recipe": recipe, "batch_size": batch}
        return "training_steps:by_gan_utils", choice

    return {
        "image size, pixels": {size: {recipe: step(recipe, size=size) for recipe in RECIPES} for size in SIZES},
        "images in a batch": {batch: {recipe: step(recipe, batch=batch) for recipe in RECIPES} for batch in BATCHES},
        "training images": {
            number: {recipe: ("growth:training_on", {"number": number, "recipe": recipe}) for recipe in RECIPES}
            for number in NUMBERS
        },
    }


def plot_growth(measured, path):
    """Images per second above, peak memory of the whole process below, over each of the three.

    Args:
        measured: {what varies: {its value as text: {recipe: a row of `compare`}}}.
        path: the PNG file to write.
    """
    figure, axes = plt.subplots(2, len(measured), figsize=(10, 5), sharex="col", sharey="row", layout="constrained")
    for column, (what, by_value) in enumerate(measured.items()):
        values = [int(value) for value in by_value]
        for recipe, style in RECIPES.items():
            rows = [row[recipe] for row in by_value.values()]
            axes[0, column].plot(values, [row["images"] / row["median"] for row in rows], style, label=recipe)
            axes[1, column].plot(values, [row["peak_megabytes"] / 1024 for row in rows], style, label=recipe)
        axes[1, column].set(xscale="log", xlabel=what, xticks=values, xticklabels=[f"{value:,}" for value in values])
        axes[1, column].minorticks_off()
    rates = 10, 20, 50, 100, 200, 500
    axes[0, 0].set(ylabel="images per second", yscale="log", yticks=rates, yticklabels=map(str, rates))
    axes[0, 0].minorticks_off()
    axes[1, 0].set(ylabel="peak memory, GB", ylim=(0, None))
    axes[0, 0].legend()
    figure.savefig(path, dpi=100, facecolor="white")
    plt.close(figure)
