"""Anatomy measured in drawn figures and in phantoms, whose true areas, lengths and numbers are known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.stats import wasserstein_distance

from gan_utils.anatomy import ANATOMY, distance_of_distributions, labels, measure_anatomy
from gan_utils.data import scale_to_unit_range
from gan_utils.plots import plot_distributions
from gan_utils.slices import resized
from prepare import brain_phantom, knee_phantom

SIZE = 128  # of the phantoms
BRAIN, VENTRICLE = (0.5, 0.65), (0.06, 0.25)  # height and width of drawn ellipses, in parts of the image's width
FEMUR, PATELLA = (0.3, 0.45), (0.1, 0.25)


def images_of(*pictures):
    """Pictures of 0..1 -> uint8 (images, size, size, 1)."""
    return (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)[..., None]


def halved(images):
    """Each pixel is the mean of four: uint8 (images, size / 2, size / 2, 1)."""
    number, size = images.shape[:2]
    return images.reshape(number, size // 2, 2, size // 2, 2, 1).mean(axis=(2, 4)).round().astype(np.uint8)


def ellipse(size, row, column, height_and_width):
    """Distance of each pixel from the middle of an ellipse, 1 on its edge: float (size, size)."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    return 2 * np.hypot((rows - row) / height_and_width[0], (columns - column) / height_and_width[1])


def area(height_and_width):
    """Of an ellipse, in percent of the image."""
    return 25 * np.pi * np.prod(height_and_width)


def assert_agree(measured, truth, correlation, bias):
    """`correlation` at least, and means that differ by the part `bias` at most."""
    assert np.corrcoef(measured, truth)[0, 1] > correlation
    np.testing.assert_allclose(np.mean(measured), np.mean(truth), rtol=bias)


# ---- Drawn heads -----------------------------------------------------------------------------------------------


def draw_head(size=64, skulls=1, opening=0):
    """A brain with two ventricles, and bright layers around it that are open for some degrees."""
    brain = ellipse(size, 0.5, 0.5, BRAIN)
    picture = 0.6 * (brain < 1)
    for row in (0.45, 0.55):
        picture[ellipse(size, row, 0.5, VENTRICLE) < 1] = 0.1
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    closed = np.abs(np.rad2deg(np.arctan2(rows, columns))) >= opening / 2
    for number in range(skulls):
        picture[(np.abs(brain - 1.16 - 0.2 * number) < 0.05) & closed] = 0.8
    return ndimage.gaussian_filter(picture, size / 128)


@pytest.mark.parametrize("size", [64, 96, 128, 256])
def test_drawn_brain_without_skull(size):
    found = measure_anatomy(images_of(draw_head(size, skulls=0)), "brain")
    np.testing.assert_allclose(found["brain_area"], area(BRAIN), rtol=0.03)
    np.testing.assert_allclose(found["ventricle_area"], 2 * area(VENTRICLE), rtol=0.2)
    assert found["symmetry"] > 0.98
    assert found["skulls"] == 0


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize(
    ("skulls", "opening", "expected"), [(1, 0, 1), (2, 0, 2), (1, 90, 0.75), (2, 90, 1.5), (1, 300, 0)]
)
def test_skulls_of_drawn_heads(size, skulls, opening, expected):
    found = measure_anatomy(images_of(draw_head(size, skulls, opening)), "brain")
    np.testing.assert_allclose(found["skulls"], expected, atol=0.06)
    if skulls == expected:  # they are all closed
        np.testing.assert_allclose(found["brain_area"], area(BRAIN), rtol=0.1)


def test_symmetry_about_any_midline():
    head = draw_head(128)
    tilted = ndimage.rotate(np.roll(head, 5, axis=0), 10, reshape=False, order=1)
    above, below = (ellipse(128, row, 0.4, (0.1, 0.15)) < 1 for row in (0.42, 0.58))
    one_sided, two_sided = np.where(above, 0.1, head), np.where(above | below, 0.1, head)
    found = measure_anatomy(images_of(head, tilted, one_sided, two_sided), "brain")["symmetry"]
    assert (found[[0, 1, 3]] > 0.95).all()
    assert found[2] < 0.8


# ---- Phantoms of brains ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brains():
    """Slices of three phantoms, and how many pixels of each are brain and ventricle: (images, int, int)."""
    heads, make_head = [], brain_phantom.make_head

    def remember(*arguments):
        heads.append(make_head(*arguments))
        return heads[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain_phantom, "make_head", remember)
        images = np.concatenate([brain_phantom.simulate_brain(subject, SIZE)[1::3] for subject in (1, 2, 3)])
    brain = [(head.head_distance[1::3] < 0).sum(axis=(1, 2)) for head, _ in heads]
    # Ventricles are deep in the brain; what else is painted as if it were one is fluid above its front.
    deep = [np.maximum(head.ventricle_distance, head.head_distance + 15)[1::3] for head, _ in heads]
    return images[..., None], np.concatenate(brain), np.concatenate([(d < 0).sum(axis=(1, 2)) for d in deep])


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_brains_of_phantoms(brains, half):
    images, brain, ventricle = brains
    pixel = brain_phantom.FIELD_OF_VIEW / SIZE
    found = measure_anatomy(halved(images) if half else images, "brain", pixel_size=pixel * (1 + half))
    assert_agree(found["brain_area"], brain * pixel**2, correlation=0.9, bias=0.05)
    assert_agree(found["ventricle_area"], ventricle * pixel**2, correlation=0.9, bias=0.15)
    np.testing.assert_allclose(found["skulls"], 1, atol=0.2)
    assert 0.97 < found["skulls"].mean() < 1.03
    assert 0.5 < np.median(found["symmetry"]) < 0.9  # no brain is quite symmetric


@pytest.mark.slow
def test_faults_in_heads_of_phantoms(brains):
    images = halved(brains[0])
    found = measure_anatomy(images, "brain")
    larger = ndimage.zoom(images[..., 0], (1, 72 / 64, 72 / 64), order=1)[:, 4:-4, 4:-4]
    heads = np.stack([ndimage.binary_fill_holes(image > 40) for image in images[..., 0]])
    doubled = np.where(ndimage.binary_dilation(heads, np.ones((1, 3, 3))), images[..., 0], larger)[..., None]
    assert np.nanmedian(measure_anatomy(doubled, "brain")["skulls"]) > 1.7
    opened = images.copy()
    opened[:, 40:, 32:] = 0  # a quarter of the head
    assert measure_anatomy(opened, "brain")["skulls"].mean() < 0.9
    blended = ((images.astype(int) + np.roll(images, (4, 4), axis=(1, 2))) // 2).astype(np.uint8)
    errors = [np.abs(measure_anatomy(some, "brain")["skulls"] - 1).mean() for some in (images, blended)]
    assert errors[1] > 3 * errors[0]
    halves = images.copy()
    halves[:, 32:] = np.roll(images, 11, axis=0)[:, 32:]  # the other half of another subject
    asymmetric = measure_anatomy(halves, "brain")["symmetry"]
    assert np.mean(asymmetric < found["symmetry"]) > 0.9
    assert np.median(asymmetric) < np.median(found["symmetry"]) - 0.1


# ---- Knees -----------------------------------------------------------------------------------------------------


def draw_knee(size=64, patella_row=0.75, line=0.0):
    """Two dark bones in grey tissue, in air; a bright line follows the front of the femur for a part of its width."""
    picture = np.where(ellipse(size, 0.5, 0.5, (0.85, 0.85)) < 1, 0.25, 0.02)
    femur = ellipse(size, 0.45, 0.5, FEMUR)
    rows, columns = (np.indices((size, size)) + 0.5) / size
    picture[(np.abs(femur - 1.1) < 0.1) & (rows > 0.45) & (np.abs(columns - 0.5) < line / 2)] = 1
    picture[(femur < 1) | (ellipse(size, patella_row, 0.5, PATELLA) < 1)] = 0.05
    return ndimage.gaussian_filter(picture, size / 128)


@pytest.mark.parametrize("size", [64, 96, 128, 256])
def test_bones_of_drawn_knees(size):
    found = measure_anatomy(images_of(draw_knee(size), draw_knee(size, patella_row=0.95)), "knee")
    np.testing.assert_allclose(found["bone_area"], [area(FEMUR) + area(PATELLA), area(FEMUR)], rtol=0.08)
    np.testing.assert_array_equal(found["bones"], [2, 1])  # the second patella is cut


@pytest.mark.parametrize("size", [64, 128, 256])
def test_cartilage_of_drawn_knees(size):
    found = measure_anatomy(images_of(*(draw_knee(size, line=line) for line in (0, 0.1, 0.2, 0.3))), "knee")
    np.testing.assert_allclose(found["cartilage_length"], [0, 10, 20, 30], atol=6)


@pytest.fixture(scope="module")
def knees():
    """Slices of phantoms, the percentage that is bone, how many bones there are, cartilage and fluid along them."""
    truth, paint_cartilage = [], knee_phantom.paint_cartilage

    def remember(section, picture, femur, patella):
        lines = np.zeros_like(picture)
        knee_phantom.paint_fluid(section, lines, femur, patella[0])
        paint_cartilage(section, lines, femur, patella)
        bones, _ = ndimage.label(np.minimum(femur, patella[0]) < 0)
        cut = np.isin(bones, [*bones[:2].ravel(), *bones[-2:].ravel()])
        bones, count = ndimage.label(~cut & (np.bincount(bones.ravel())[bones] > 0.005 * bones.shape[1] ** 2))
        along = ndimage.binary_dilation(lines > 0.15, iterations=2) & ndimage.binary_dilation(bones) & (bones == 0)
        truth.append((100 * (bones > 0).sum() / bones.shape[1] ** 2, count, 100 * along.sum() / bones.shape[1]))
        paint_cartilage(section, picture, femur, patella)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knee_phantom, "paint_cartilage", remember)
        slices = np.concatenate([knee_phantom.paint_knee(patient, SIZE)[::3] for patient in (1, 2, 3, 4)])
    images = np.stack([np.asarray(resized(Image.fromarray(picture), SIZE)) for picture in slices])
    every_third = np.concatenate([truth[start : start + 40 : 3] for start in range(0, len(truth), 40)])
    return images[..., None], *every_third.T


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
def test_knees_of_phantoms(knees, half):
    images, bone_area, bones, cartilage = knees
    found = measure_anatomy(halved(images) if half else images, "knee")
    assert_agree(found["bone_area"], bone_area, correlation=0.9, bias=0.1)
    assert np.mean(found["bones"] == bones) > 0.8
    assert_agree(found["cartilage_length"], cartilage, correlation=0.7, bias=0.2)


@pytest.mark.slow
def test_blur_takes_the_cartilage_away(knees):
    blurred = ndimage.gaussian_filter(knees[0], (0, 4, 4, 0))
    lengths = [measure_anatomy(images, "knee")["cartilage_length"].mean() for images in (knees[0], blurred)]
    assert lengths[1] < 0.5 * lengths[0]


# ---- Both ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_other_sizes_have_the_same_values(brains, knees):
    for experiment, (images, *_) in ("brain", brains), ("knee", knees):
        large, small = (measure_anatomy(some, experiment) for some in (images, halved(images)))
        for name in ANATOMY[experiment]:
            np.testing.assert_allclose(np.mean(large[name]), np.mean(small[name]), rtol=0.02)
            assert np.corrcoef(large[name], small[name])[0, 1] > 0.95


@pytest.mark.parametrize(("experiment", "draw"), [("brain", draw_head), ("knee", draw_knee)])
def test_units(experiment, draw):
    images = images_of(draw(128), draw(128))
    in_percent = measure_anatomy(images, experiment)
    in_mm = measure_anatomy(scale_to_unit_range(images), experiment, pixel_size=2.0)
    for name, one in ANATOMY[experiment].items():
        in_pixels = one.measure(images)
        assert in_pixels.shape == (2,)
        assert in_pixels.dtype == float
        np.testing.assert_allclose(in_mm[name], in_pixels * 2**one.power, rtol=0.02)
        np.testing.assert_allclose(in_percent[name], in_pixels * (100 / 128**one.power if one.power else 1))


def test_a_data_set_without_measurements_has_none():
    assert labels("liver") == measure_anatomy(images_of(draw_head(64)), "liver") == {}
    figure = plot_distributions({"generated": {}, "held-out": {}}, labels("liver"))
    assert len(figure.axes) == 1
    plt.close(figure)


def odd_images(size):
    """Images without anatomy: of one tone, noise, single bright pixels, a chessboard, stripes, halves, a frame."""
    rng, columns = np.random.default_rng(0), np.indices((size, size))[1] / (size - 1)
    noise, border = rng.random((size, size)), np.zeros((size, size), bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    chessboard, one_pixel = np.indices((size, size)).sum(axis=0) % 2, np.zeros((size, size))
    one_pixel[size // 2, size // 2] = 1
    tones = (np.full((size, size), tone) for tone in (0.0, 0.5, 1.0))
    dim, specks, stripes = 0.02 * noise, noise < 0.01, np.sin(40 * columns) > 0
    return images_of(*tones, noise, dim, specks, one_pixel, chessboard, stripes, columns, columns > 0.5, border)


@pytest.mark.parametrize("size", [64, 96, 128, 256])
@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_odd_images_have_no_anatomy(size, experiment):
    for name, values in measure_anatomy(odd_images(size), experiment).items():
        assert np.isnan(values).all(), (name, values)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_fog_and_blobs_raise_nothing(size, experiment):
    rng = np.random.default_rng(0)
    for sigma in (0.5, 2, 5):
        fog = ndimage.gaussian_filter(rng.standard_normal((10, size, size)), (0, sigma, sigma))
        for contrast in (0.02, 0.2, 1):
            found = measure_anatomy(images_of(*(0.5 + contrast * fog / fog.std())), experiment)
            assert all(values.shape == (10,) for values in found.values())


def test_distance_of_distributions():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 50), rng.normal(1, 2, 80)
    np.testing.assert_allclose(distance_of_distributions(first, second), wasserstein_distance(first, second))
    np.testing.assert_allclose(distance_of_distributions(first, first + 3), 3)
    with_gaps = np.append(first, [np.nan, np.nan])
    np.testing.assert_allclose(distance_of_distributions(with_gaps, second), wasserstein_distance(first, second))
    assert np.isnan(distance_of_distributions([np.nan], first))
