"""Warnings in plain words for a run that has gone wrong, from its losses and from how it was judged."""

import numpy as np

# Where alarms go off. Sets of six or more real people had ratios of 0.7 to 1.2 in trials.
COLLAPSE = 0.5  # diversity ratio
LATTICE = 2.0  # high-frequency ratio; published brain networks have begun with 5
MEMORISING = 0.7  # nearest ratio; a blur lowers it as well, so the images must also be sharp
SHARP = 0.7  # high-frequency ratio
DISCRIMINATOR_HAS_WON = 0.05  # mean loss; a tossed coin has 1.39

FIRST_JUDGED_EPOCH = 3  # the fog and the lattice that healthy runs begin with raise no alarm before
MEASURED_EVERY_EPOCH = "generator_loss", "discriminator_loss", "ssim"  # the SSIM of broken images is NaN, too
JUDGED = "diversity_ratio", "high_frequency_ratio", "nearest_ratio"


def alarms(figures):
    """Warnings for one set of figures, each with its cause and something to try; often none.

    Args:
        figures: {name: float}, any of those from `judge` and of `generator_loss` and `discriminator_loss`, the mean
            losses of an epoch.

    Returns:
        list of str.
    """
    if not np.isfinite(list(figures.values())).all():
        return ["NaN: training has blown up and cannot recover; start again with smaller learning rates."]
    diversity, high_frequency, nearest, loss = (
        figures.get(name, 1.0)  # what is not there raises no alarm
        for name in ("diversity_ratio", "high_frequency_ratio", "nearest_ratio", "discriminator_loss")
    )
    warnings = {
        "Collapse: the generated images are nearly all alike; try a smaller learning rate, or the improved recipe.": (
            diversity < COLLAPSE
        ),
        "Lattice: the generated images have far too much fine texture, a lattice or noise; train longer, or try beta_1 "
        "0.5 or kernels of 4 pixels.": high_frequency > LATTICE,
        "Memorising: the generated images are sharp but hardly differ from training images; add people, or train for "
        "fewer epochs.": nearest < MEMORISING and high_frequency > SHARP,
        "The discriminator has won: it knows every generated image, so the generator learns nothing any more; give it "
        "a smaller learning rate.": loss < DISCRIMINATOR_HAS_WON,
    }
    return [warning for warning, holds in warnings.items() if holds]


def alarms_of_epochs(history):
    """The alarms of a whole run: {warning: [epochs that raised it]}, in the order of their first epochs.

    Losses raise alarms in every epoch, judged figures from epoch 3 on. Built up in notebooks/03_train.ipynb.

    Args:
        history: from `read_history`; what an older run did not measure raises no alarm.
    """
    measured = [name for name in MEASURED_EVERY_EPOCH if name in history.dtype.names]
    judged = [name for name in JUDGED if name in history.dtype.names]
    raised = {}
    for row in history:
        figures = {name: row[name] for name in measured}
        if row["epoch"] >= FIRST_JUDGED_EPOCH:
            figures |= {name: row[name] for name in judged if np.isfinite(row[name])}  # NaN: not judged in this epoch
        for warning in alarms(figures):
            raised.setdefault(warning, []).append(int(row["epoch"]))
    return raised


def describe_alarms(history):
    """The alarms of a whole run as text, a line for each with the epochs that raised it, or that there are none.

    Args:
        history: from `read_history`.

    Example:
        >>> print(describe_alarms(read_history(run_folder)))
        Alarms in 10 epochs:
        - epochs 5, 10: Collapse: the generated images are nearly all alike; try ...
    """
    raised = alarms_of_epochs(history)
    lines = [f"- epoch{'s' if len(epochs) > 1 else ''} {in_ranges(epochs)}: {text}" for text, epochs in raised.items()]
    return "\n".join([f"Alarms in {len(history)} epochs:{'' if lines else ' none'}", *lines])


def in_ranges(numbers):
    """Ascending numbers as text, runs of three or more as a range: [3, 5, 6, 7] -> '3, 5-7'."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
