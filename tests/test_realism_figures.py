import numpy as np
import pytest

from gan_utils.realism_figures import (
    plot_people,
    plot_spectra,
    show_judgement,
    show_nearest,
    show_table,
)

pytestmark = pytest.mark.usefixtures("close_figures")


def uniform_images(number, size=32):
    return np.random.default_rng(0).uniform(-1, 1, (number, size, size, 1)).astype(np.float32)


def test_table_has_a_line_for_each_row():
    text = show_table(["a", "b"], [(1, "x"), (2, "y")]).data
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |", "| 2 | y |"]


def test_generated_and_real_figures_stand_side_by_side():
    figures = {"swd": 20.04, "swd_real": 15, "diversity_ratio": 0.9, "diversity_ratio_spread": 0.1, "kid": None}
    lines = show_judgement(figures).data.splitlines()
    assert "| sliced Wasserstein distance | 20.0 | 15.0 | as real |" in lines
    assert "| diversity ratio | 0.90 ± 0.10 | not measured | 1 |" in lines
    assert "| KID | not measured | not measured | 0 |" in lines


def test_nearest_images_stand_below_their_images():
    images, nearest = uniform_images(5), np.zeros((5, 32, 32, 1))
    axes = show_nearest(images, nearest, np.arange(5) / 10).axes
    assert len(axes) == 15
    assert [axis.get_title() for axis in axes[:5]] == ["0.00", "0.10", "0.20", "0.30", "0.40"]
    for row, expected in enumerate((images, nearest, images - nearest)):
        np.testing.assert_array_equal(axes[5 * row + 3].images[0].get_array(), expected[3, ..., 0])
        assert axes[5 * row + 3].images[0].get_clim() == (-1, 1)
    assert show_nearest(images[:1], nearest[:1], [0.5]).axes[2].get_ylabel() == "difference"


def test_spectra_differ_in_style_and_reach_the_corner():
    frequencies = np.linspace(0, 0.71, 20)
    spectra = {name: (frequencies, np.full(20, power)) for name, power in (("a", 1.0), ("b", 10.0), ("c", 0.1))}
    (axis,) = plot_spectra(spectra).axes
    assert axis.get_yscale() == "log"
    assert axis.get_xlim() == (0, 0.71)
    assert len({line.get_linestyle() for line in axis.lines[:3]}) == 3
    assert [line.get_ydata()[0] for line in axis.lines[:3]] == [1, 10, 0.1]
    assert axis.lines[3].get_xdata()[0] == 0.25


@pytest.mark.parametrize("people", [1, 6, 17])
def test_every_person_has_a_place(people):
    values = np.linspace(50, 60, people)
    figures = {
        "person": np.arange(40, 40 + people),
        "swd": values,
        "swd_real": values - 5,
        "nearest_ratio": values / 50,
    }
    distances, ratios = plot_people(figures).axes
    for axis in (distances, ratios):
        assert [int(label.get_text()) for label in axis.get_xticklabels()] == figures["person"].tolist()
    assert distances.lines[0].get_ydata().tolist() == values.tolist()
    assert distances.get_ylim()[0] == 0
    assert distances.get_ylim()[1] > values.max()
    assert distances.lines[0].get_marker() != distances.lines[2].get_marker()
