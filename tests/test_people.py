import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan_utils.people import judge_by_person, over_people, summary
from gan_utils.realism import Judge

NAMES = ["person", "swd", "swd_real", "high_frequency_ratio", "nearest_ratio"]


def make_people(people, slices, seed):
    """Slices of smooth random people, each with little changes of the same blobs: (images, number of the person)."""
    draw = np.random.default_rng(seed)
    blobs = gaussian_filter(draw.standard_normal((people, 1, 32, 32, 1)), (0, 0, 4, 4, 0))
    changes = gaussian_filter(draw.standard_normal((people, slices, 32, 32, 1)), (0, 0, 1, 1, 0))
    images = np.tanh(8 * blobs + 0.3 * changes).astype(np.float32)
    return images.reshape(-1, 32, 32, 1), np.repeat(10 * np.arange(1, people + 1), slices)


@pytest.fixture(scope="module")
def training():
    return make_people(12, 8, seed=0)[0]


@pytest.fixture(scope="module")
def good():
    return make_people(30, 2, seed=1)[0]


def judged(generated, held_out, people, training):
    return judge_by_person(generated, held_out, people, training, projections=16)


def test_everyone_is_judged(good, training):
    held_out, people = make_people(4, 8, seed=2)
    figures = judged(good, held_out, people, training)
    assert list(figures) == NAMES
    assert figures["person"].tolist() == [10, 20, 30, 40]
    assert {values.shape for values in figures.values()} == {(4,)}
    assert figures["swd"].mean() == pytest.approx(figures["swd_real"].mean(), rel=0.3)
    assert figures["nearest_ratio"].mean() == pytest.approx(1, abs=0.15)
    order = np.random.default_rng(0).permutation(len(people))
    shuffled = judged(good, held_out[order], people[order], training)
    assert shuffled["nearest_ratio"] == pytest.approx(figures["nearest_ratio"])


def test_one_person_alone_is_judged_as_by_judge(good, training):
    held_out, people = make_people(1, 8, seed=2)
    figures = judged(good, held_out, people, training)
    expected = Judge(held_out, training, number=len(good), projections=16)(good)
    assert figures["nearest_ratio"] == pytest.approx([expected["nearest_ratio"]], abs=1e-4)
    assert figures["swd"] == pytest.approx([expected["swd"]], rel=0.2)  # other images are drawn


def test_copies_and_noise_are_seen_by_everyone(training):
    held_out, people = make_people(3, 6, seed=2)
    assert (judged(training, held_out, people, training)["nearest_ratio"] < 0.01).all()
    noise = np.random.default_rng(0).uniform(-1, 1, (20, 32, 32, 1)).astype(np.float32)
    figures = judged(noise, held_out, people, training)
    assert (figures["nearest_ratio"] > 1.1).all()
    assert (figures["high_frequency_ratio"] > 2).all()
    assert (figures["swd"] > 1.2 * figures["swd_real"]).all()


def test_a_figure_says_how_many_people_stand_behind_it():
    assert over_people(np.array([1.0, 3.0])) == "2.00 ± 1.00 (2 people)"
    assert over_people(np.array([1.234]), digits=1) == "1.2 (one person)"


def test_summary_has_no_spread_over_one_person():
    figures = {"person": np.array([7, 8]), "swd": np.array([1.0, 3.0])}
    assert summary(figures) == {"held_out_people": 2, "swd_over_people": 2.0, "swd_over_people_spread": 1.0}
    alone = summary({name: values[:1] for name, values in figures.items()})
    assert alone == {"held_out_people": 1, "swd_over_people": 1.0, "swd_over_people_spread": None}
