"""What each metric must notice: the sets of images with known faults of notebook 4, as they are made there."""

import functools
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import prepare
from conftest import NOTEBOOKS
from gan_utils import anatomy, data, features, image_statistics
from gan_utils.evaluator import Evaluator
from gan_utils.metrics import METRICS
from gan_utils.settings import choose_settings

pytestmark = pytest.mark.slow

# Metric: {fault: by how much at least it changes, as a multiple of what faultless images have}. Below 1: it falls.
NOTICED = {
    "brain": {
        "swd": {"blurred": 1.3, "specks": 1.3, "doubled": 1.3, "two subjects": 1.2},
        "diversity_ratio": {"half alike": 0.85, "two subjects": 0.9, "specks": 1.1},
        "high_frequency_ratio": {"blurred": 0.2, "specks": 2, "doubled": 1.2},
        "nearest_ratio": {"copies": 0.1, "two subjects": 0.1, "blurred": 0.9, "specks": 1.1},
        "frechet_distance": {"blurred": 1.3, "specks": 1.3, "doubled": 1.3, "two subjects": 1.3},
        "frechet_ratio": {"blurred": 1.3, "specks": 1.3, "doubled": 1.3, "half alike": 1.1},
        "kernel_distance": {"blurred": 1.5, "specks": 1.5, "doubled": 2},
        "random_frechet_distance": {"doubled": 1.3, "specks": 1.1, "half alike": 1.1},
        "random_kernel_distance": {"doubled": 2, "blurred": 1.3},
        "density": {"blurred": 0.6, "specks": 0.6, "doubled": 0.6, "two halves": 0.85},
        "coverage": {"blurred": 0.7, "specks": 0.7, "doubled": 0.5},
        "brain_area": {"doubled": 2},
        "skulls": {"blurred": 3, "doubled": 2},
        "symmetry": {"two halves": 3},
    },
    "knee": {
        "swd": {"blurred": 1.3, "specks": 1.3, "doubled": 1.3, "half alike": 1.2},
        "diversity_ratio": {"half alike": 0.85, "two subjects": 0.9},
        "high_frequency_ratio": {"blurred": 0.2, "specks": 2, "two subjects": 0.9},
        "nearest_ratio": {"copies": 0.1, "specks": 1.2},
        "frechet_ratio": {"blurred": 1.5, "specks": 2, "doubled": 1.3},
        "kernel_distance": {"blurred": 2, "specks": 2, "doubled": 2},
        "random_frechet_distance": {"specks": 1.5, "half alike": 1.2},
        "density": {"specks": 0.1, "two halves": 0.9},
        "coverage": {"blurred": 0.5, "specks": 0.2, "doubled": 0.7},
        "bone_area": {"specks": 2, "doubled": 2},
        "bones": {"specks": 1.5},
        "cartilage_length": {"blurred": 3, "specks": 3, "doubled": 1.5},
    },
}
CELLS = [
    (kind, metric, fault) for kind, table in NOTICED.items() for metric, faults in table.items() for fault in faults
]


@functools.cache
def evaluate(experiment):
    """The faulty sets of notebook 4, {fault: {metric: value}} of what `NOTICED` names, and the evaluator."""
    settings = choose_settings(experiment, "quick", data="phantoms")
    prepare.phantoms(settings)
    splits = data.load(settings)
    network = features.train_feature_network(splits.train, settings.seed)
    evaluator = Evaluator(splits.test.images, splits.train.images, settings, network=network)
    known = {"settings": settings, "splits": splits, "gaussian_filter": gaussian_filter, "np": np, "data": data}
    known |= {
        "training_images": data.scale_to_unit_range(evaluator.training_sample),
        "image_statistics": image_statistics,
    }
    cells = nbformat.read(NOTEBOOKS[3], as_version=4).cells
    (cell,) = (cell.source for cell in cells if cell.source.startswith("real = ") and "faulty = {" in cell.source)
    exec(cell, known)
    wanted = NOTICED[experiment]
    found = {
        fault: evaluator(images, [name for name in wanted if name in METRICS])
        for fault, images in known["faulty"].items()
    }
    held_out = anatomy.measure_anatomy(splits.test.images, experiment)
    for name in wanted.keys() - METRICS.keys():
        for fault in ("no fault", *wanted[name]):
            measured = anatomy.measure_anatomy(known["faulty"][fault], experiment)[name]
            found[fault][name] = anatomy.distance_of_distributions(measured, held_out[name])
    return SimpleNamespace(faulty=known["faulty"], found=found, evaluator=evaluator)


@pytest.mark.parametrize(("experiment", "metric", "fault"), CELLS)
def test_each_metric_notices_what_it_must(experiment, metric, fault):
    found = evaluate(experiment).found
    share, least = found[fault][metric] / found["no fault"][metric], NOTICED[experiment][metric][fault]
    assert share > least if least > 1 else share < least, share


@pytest.mark.parametrize("fault", ["no fault", "doubled", "two halves"])
def test_the_two_sample_test_notices_faults_and_nothing_else(fault):
    evaluator = evaluate("brain").evaluator
    images = data.scale_to_unit_range(evaluator.other_training_images())
    if fault == "doubled":
        images = np.maximum(images, np.roll(images, 4, axis=2))
    if fault == "two halves":
        images = np.concatenate([images[:, :32], images[::-1, 32:]], axis=1)
    accuracy = np.mean(evaluator.tell_apart(images))
    assert 0.35 < accuracy < 0.65 if fault == "no fault" else accuracy > 0.7


def test_copies_escape_all_but_the_nearest_neighbour():
    found = evaluate("brain").found["copies"]
    assert found["nearest_ratio"] < 0.1
    for name in ("swd", "diversity_ratio", "high_frequency_ratio", "frechet_distance"):
        assert found[name] == pytest.approx(found[f"{name}_real"], rel=0.15)
