"""Anatomy of each image by classical image analysis: areas, lengths, counts and symmetry, without a learned model.

Images are float (images, size, size, 1), -1..1, or uint8 0..255. All is measured in copies of 64x64 pixels, so values
agree at every size. The numbers in the code were chosen with phantoms, whose anatomy is known.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.signal import find_peaks
from scipy.stats import wasserstein_distance
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from gan_utils.image_statistics import as_images

SIZE = 64
ANGLES = np.arange(0, 360, 5)  # degrees, of rays from the middle of a head: 0 to the right, 90 down
RAYS = np.stack([np.sin(np.deg2rad(ANGLES)), np.cos(np.deg2rad(ANGLES))])[..., None]  # row and column
DEPTHS = np.linspace(-0.25, 0.3, 56)  # below the outline of a head, as parts of its radius: where skulls may be
RADII = np.sqrt((np.arange(24) + 0.5) / 24) * 0.95  # parts of the radius of a brain that stand for equal areas
MIRRORED = [np.arange(shift, shift - len(ANGLES), -1) % len(ANGLES) for shift in range(-6, 7)]  # midlines up to 15°
RIM = np.linalg.norm(np.indices((SIZE, SIZE)) - 31.5, 6, axis=0) > 27.4  # of a picture, and its corners


class Measurement(NamedTuple):
    """One entry of `ANATOMY`."""

    label: str
    power: int  # 0: a plain number, 1: a length, 2: an area
    find: Callable  # copy (64, 64) -> what is to be measured in it, or None
    value: Callable  # of that -> a number

    def measure(self, images, found=None):
        """float (images,), in pixels of the images to that power; NaN where there is nothing to be measured."""
        found = map(self.find, copies_of(images)) if found is None else found
        values = [np.nan if one is None else self.value(one) for one in found]
        return np.array(values, float) * (images.shape[1] / SIZE) ** self.power


def copies_of(images):
    """The images with 64x64 pixels, 0 black to 1 white: float32 (images, 64, 64)."""
    copies = [Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BOX) for image in as_images(images)]
    return np.reshape(copies, (-1, SIZE, SIZE)) / 2 + 0.5


class Brain(NamedTuple):
    """The brain in a slice, be it of a whole head or without skull."""

    copy: np.ndarray  # (64, 64)
    distance: np.ndarray  # (64, 64), of pixels from the centre, 1 at the border of the brain
    tones: np.ndarray  # (angles, radii), along rays from the centre to the border
    skulls: np.ndarray  # int (angles,), how often it gets bright and dark again on the way in from the air


def find_brain(copy):
    """The `Brain` in a copy, or None; a skull is what is dark all the way round, just below the outline of a head."""
    tissue = np.median(copy[copy >= threshold_otsu(copy)])
    head = copy > 0.4 * tissue
    if head.mean() < 0.05 or np.mean([head[0], head[-1], head[:, 0], head[:, -1]]) > 0.1:  # no head with air around it
        return None
    centre = ndimage.center_of_mass(head)
    steps = np.arange(0, 0.7 * SIZE, 0.25)
    outline = np.where(along_rays(copy, centre, steps) > 0.4 * tissue, steps, 0).max(axis=1)
    outline = ndimage.median_filter(outline, 5, mode="wrap")  # lone bright pixels in the air do not count
    within = distances(centre, outline) < 1
    if within.mean() < 0.05 or head[within].mean() < 0.5:  # specks
        return None
    profiles = along_rays(copy, centre, outline[:, None] * (1 - DEPTHS)) / tissue
    profiles = ndimage.gaussian_filter(profiles, 1, mode=("wrap", "nearest"))
    costs = np.maximum(profiles, 0.5) - 0.2 * DEPTHS  # where several depths are dark enough, the deepest
    costs[:, DEPTHS < 0.035] = 9  # the outline itself is dark, too
    skull = ndimage.median_filter(ndimage.gaussian_filter1d(costs, 2, axis=0, mode="wrap").argmin(1), 9, mode="wrap")
    skulls = np.array([len(find_peaks(profiles[ray, : end + 1], prominence=0.1)[0]) for ray, end in enumerate(skull)])
    whole_head = (skulls > 0).mean() > 0.5  # else there is no scalp, and what seemed skull is furrows of the brain
    border = outline * (1 - DEPTHS[skull]) if whole_head else outline
    tones = along_rays(ndimage.gaussian_filter(copy, 1.2), centre, border[:, None] * RADII)
    return Brain(copy, distances(centre, border), tones, skulls * whole_head)


def along_rays(copy, centre, steps):
    """Values of a copy at steps from the centre, pixels, (steps,) or (angles, steps): float32 (angles, steps)."""
    return ndimage.map_coordinates(copy, np.reshape(centre, (2, 1, 1)) + RAYS * steps, order=1)


def distances(centre, border):
    """Distance of each pixel from the centre, 1 on the border (angles,): float (64, 64)."""
    rows, columns = np.indices((SIZE, SIZE)) - np.reshape(centre, (2, 1, 1))
    radii = np.interp(np.rad2deg(np.arctan2(rows, columns)), ANGLES, border, period=360)
    return np.hypot(rows, columns) / np.maximum(radii, 0.1)


def ventricle_area(brain):
    """Dark regions that reach far into the brain, with their blurred rims; cisterns near the middle are among them."""
    inner, tissue = brain.distance < 0.4, np.median(brain.copy[brain.distance < 1])
    fluid = min(np.percentile(brain.copy[inner], 1), 0.45 * tissue)
    tones = (brain.copy - fluid) / max(tissue - fluid, 0.01)  # 0 in fluid, 1 in tissue
    labels, _ = ndimage.label((tones < 0.35) & (brain.distance < 0.6))
    regions = (labels > 0) & np.isin(labels, labels[inner]) & (np.bincount(labels.ravel())[labels] >= 6)
    return (ndimage.binary_dilation(regions) & (tones < 0.65) & (brain.distance < 1)).sum()


def symmetry(brain):
    """Correlation of the brain with its mirror image about the best midline; NaN where all is of one tone."""
    tones = brain.tones - brain.tones.mean()
    return max((tones * tones[rays]).sum() for rays in MIRRORED) / (tones**2).sum() if tones.std() > 0.01 else np.nan


class Knee(NamedTuple):
    """The bones in a slice, femur or its condyles and patella; without those that the edge of the picture cuts."""

    tones: np.ndarray  # (64, 64), 0 in bone, 1 in bright tissue
    bones: np.ndarray  # int (64, 64), 0 or the number of the bone


def find_knee(copy):
    """The `Knee` in a copy, or None: a watershed parts what is as dark as bone from what is bright or air."""
    smooth = ndimage.gaussian_filter(copy, 0.7)
    bone, tissue = np.percentile(smooth[16:-16, 16:-16], 5), np.percentile(smooth[8:-8, 8:-8], 65)
    if tissue - bone < 0.03:
        return None
    dark = smooth < bone + 0.1 * (tissue - bone)
    labels, _ = ndimage.label(dark)
    outside = RIM | (smooth > (bone + tissue) / 2) | (dark & np.isin(labels, labels[RIM & dark]))
    parts = watershed(ndimage.gaussian_gradient_magnitude(copy, 1), np.where(outside, 1, 2 * dark))
    labels, _ = ndimage.label(ndimage.binary_opening(parts == 2))
    bones, _ = ndimage.label((labels > 0) & (np.bincount(labels.ravel())[labels] >= 30))
    return Knee((copy - bone) / (tissue - bone), bones) if (bones > 0).mean() > 0.03 else None


def cartilage_length(knee):
    """Length of the outline of the bones along which there is a thin bright line: cartilage, or fluid."""
    line = ndimage.white_tophat(knee.tones, size=5) > 1.1
    return (ndimage.binary_dilation(line) & ndimage.binary_dilation(knee.bones) & (knee.bones == 0)).sum()


ANATOMY = {
    "brain": {
        "brain_area": Measurement("brain area", 2, find_brain, lambda brain: (brain.distance < 1).sum()),
        "ventricle_area": Measurement("area of ventricles and cisterns", 2, find_brain, ventricle_area),
        "symmetry": Measurement("left-right symmetry", 0, find_brain, symmetry),
        "skulls": Measurement("skulls around the brain", 0, find_brain, lambda brain: brain.skulls.mean()),
    },
    "knee": {
        "bone_area": Measurement("bone area", 2, find_knee, lambda knee: (knee.bones > 0).sum()),
        "bones": Measurement("number of bones", 0, find_knee, lambda knee: knee.bones.max()),
        "cartilage_length": Measurement("length of cartilage and fluid along bones", 1, find_knee, cartilage_length),
    },
}


def labels(experiment, pixel_size=None):
    """{name: label with unit} of all measurements of an experiment; `pixel_size` as for `measure_anatomy`."""
    units = ("", " (mm)", " (mm²)") if pixel_size else ("", " (% of the width)", " (% of the image)")
    return {name: one.label + units[one.power] for name, one in ANATOMY.get(experiment, {}).items()}


def measure_anatomy(images, experiment, pixel_size=None):
    """{name: float (images,)} of all measurements of an experiment; NaN where there is nothing to be measured.

    Lengths are in mm and areas in mm² if the size of a pixel of these images is given in mm, else in percent of the
    width and of the area of an image.
    """
    measurements, copies, size = ANATOMY.get(experiment, {}), copies_of(images), images.shape[1]
    found = {find: [find(copy) for copy in copies] for find in {one.find for one in measurements.values()}}
    units = (1, pixel_size, pixel_size**2) if pixel_size else (1, 100 / size, 100 / size**2)
    return {name: one.measure(images, found[one.find]) * units[one.power] for name, one in measurements.items()}


def distance_of_distributions(first, second):
    """Wasserstein distance between two sets of values, in their unit; NaN are left out: count them apart."""
    first, second = (np.asarray(values)[np.isfinite(values)] for values in (first, second))
    return float(wasserstein_distance(first, second)) if len(first) and len(second) else np.nan
