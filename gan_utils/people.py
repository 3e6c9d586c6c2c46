"""Figures against one held-out person at a time: their spread says how much hangs on who was held out."""

import numpy as np

from gan_utils.realism import (
    JUDGE_PROJECTIONS,
    distance_to_training,
    draw_images,
    high_frequency_power,
    sliced_wasserstein_distance,
    small_copies,
)


def judge_by_person(generated, held_out, people, training, seed=1, projections=JUDGE_PROJECTIONS):
    """What generated images score against each held-out person alone, beside what training images score.

    A person has few slices, and they are alike, so that distances are larger than those from `judge`: compare `swd`
    with `swd_real` only. Built up in notebooks/04_evaluate.ipynb.

    Args:
        generated: generated images, -1..1.
        held_out: real images of people whom the generator never saw.
        people: int (held-out images,), the number of the person in each.
        training: all images that it was trained on.
        seed: of every random draw.
        projections: of the sliced Wasserstein distances.

    Returns:
        {name: array with a value a person}: `person`; `swd` and `swd_real`, the distances of generated and of training
        images, as many as the person has; `high_frequency_ratio` and `nearest_ratio`, with the person below the line.
    """
    copies = small_copies(training)
    images = {"swd": generated, "swd_real": training}
    high_frequencies = high_frequency_power(generated).mean()
    nearest = distance_to_training(generated, training, copies)[0].mean()
    found = {name: [] for name in ("person", *images, "high_frequency_ratio", "nearest_ratio")}
    for person in np.unique(people):
        slices = held_out[people == person]
        found["person"].append(person)
        for name in images:
            drawn = draw_images(images[name], len(slices), seed)
            distances = sliced_wasserstein_distance(drawn, slices, seed, projections=projections)
            found[name].append(distances["mean"])
        found["high_frequency_ratio"].append(high_frequencies / high_frequency_power(slices).mean())
        found["nearest_ratio"].append(nearest / distance_to_training(slices, training, copies)[0].mean())
    return {name: np.array(values) for name, values in found.items()}


def over_people(values, digits=2):
    """Mean ± standard deviation over people in words, and how many they are; one person has no spread."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (one person)"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f} ({len(values)} people)"


def summary(figures):
    """What `judge_by_person` found, for results.json: {name_over_people: mean, name_over_people_spread: float or None}.

    The spread is the standard deviation over people; None where there is one person only.
    """
    means = {"held_out_people": len(figures["person"])}
    for name, values in figures.items():
        if name != "person":
            spread = round(float(values.std()), 4) if len(values) > 1 else None
            means |= {f"{name}_over_people": round(float(values.mean()), 4), f"{name}_over_people_spread": spread}
    return means
