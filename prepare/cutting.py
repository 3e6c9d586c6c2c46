"""One volume (NIfTI or Analyze) to its axial slices as the published layouts have them.

Wherever a file begins and whichever way its axes run, the slices come out the same: its header says how it is oriented.
In a canonical image x rises to the subject's right, y to the front, z to the top. Lengths are in mm.
"""

from collections.abc import Callable
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.processing import resample_from_to
from scipy import ndimage
from skimage.filters import threshold_otsu

from gan_utils import DataError
from prepare.reading import read_volume

COARSE = 3.0  # mm: grid on which the head is looked for
TOP_AREA = 400.0  # mm²: a slice with as much foreground belongs to the head, not to noise above it
UPPER_HEAD = 75.0  # mm below the top: above nose, ears and neck, so that what is measured there is the skull
BRAIN_HEIGHT = 0.875  # of the width there: as far below the top the middle of what is above is the middle of the brain
HEAD_LENGTH = 120.0, 280.0  # mm from front to back, of babies and of the largest heads with some noise
KNEE_LEVEL = 34.0  # mm above the middle of the scan: slices end 14 mm above the joint line, where AKOA's end
DARKEST, BRIGHTEST = 1, 99  # percentiles that become black and white: single voxels do not darken the rest


class Cut(NamedTuple):
    """What the slices of one experiment are."""

    shape: tuple[int, int, int]  # voxels along x, y and z; all even
    step: tuple[float, float, float]  # mm from voxel to voxel along x, y and z
    level: Callable  # canonical image -> mm from the middle of the scan up to the middle of the slices
    arrange: Callable  # voxels (x, y, z) -> pictures (slice, row, column)
    ending: str  # of the files' names


def cut_volume(path, experiment):
    """The slices of one volume, taken from the middle of its field of view.

    Args:
        path: `pathlib.Path` of a .nii, .nii.gz, or of the .hdr of a pair.
        experiment: "brain": from low to high, the subject's left on top, nose to the right, 1 mm per pixel.
            "knee": from the thigh down, muscles on top, kneecap at the bottom, the subject's right on the left, 0.5 mm.

    Returns:
        uint8 (32, 256, 256) or (40, 228, 260); 0 is the 1st percentile of the volume, 255 the 99th of the foreground
        at the height of the slices.

    Raises:
        DataError: as `read_volume`, or it is too flat for so many slices, or shows no head, or one of another size.
    """
    cut = CUTS[experiment]
    image = nibabel.as_closest_canonical(read_volume(path))
    data = image.get_fdata(dtype=np.float32)
    sizes = voxel_sizes(image.affine)
    room = ((data.shape[2] - 1) * sizes[2] - (cut.shape[2] - 1) * cut.step[2]) / 2  # up and down from the middle
    if room < -1e-3:
        raise DataError(
            f"{path} is {data.shape[2] * sizes[2]:.0f} mm high: too flat for {cut.shape[2]} slices {cut.step[2]:g} mm "
            "apart. Leave it out."
        )
    level = np.clip(cut.level(image, path), -max(room, 0), max(room, 0))
    low, high = black_and_white(data, sizes[2], level, (cut.shape[2] - 1) * cut.step[2])
    pictures = cut.arrange(resampled(image, level, cut.shape, cut.step, low))
    return np.round(np.clip((pictures - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def black_and_white(data, size, level, height):
    """The values that become black and white.

    White is chosen at the height of the slices: fat of scalp and neck, brighter than any brain, is mostly elsewhere.

    Args:
        data: (x, y, z) of a canonical image.
        size: mm of a voxel along z.
        level, height: mm, the middle of the slices above that of the volume, and from the first to the last.
    """
    middle, half = (data.shape[2] - 1) / 2 + level / size, height / 2 / size
    there = data[:, :, np.abs(np.arange(data.shape[2]) - middle) <= half]
    threshold = foreground_threshold(data)
    foreground = there[there > threshold] if (there > threshold).any() else data[data > threshold]
    return np.percentile(data, DARKEST), np.percentile(foreground, BRIGHTEST)


def resampled(image, level, shape, step, outside):
    """Voxels of a grid around the middle of a canonical image, by linear interpolation.

    Where the voxels have the wanted size already, the grid is put onto them, and nothing is interpolated.

    Args:
        image: canonical `nibabel.Nifti1Image`.
        level: mm above the middle of the image.
        shape: voxels along x, y and z.
        step: mm from voxel to voxel.
        outside: value beyond the image.

    Returns:
        float (x, y, z).
    """
    sizes, step = voxel_sizes(image.affine), np.array(step)
    middle = (np.array(image.shape) - 1) / 2 + [0, 0, level / sizes[2]]
    half = (np.array(shape) - 1) / 2
    on_voxels = np.floor(middle - half + 0.501) + half  # not 0.5: half-way cases must not depend on rounding errors
    middle = np.where(np.isclose(sizes, step, rtol=1e-3), on_voxels, middle)
    axes = image.affine[:3, :3] / sizes * step
    first = apply_affine(image.affine, middle) - axes @ half
    return resample_from_to(image, (shape, from_matvec(axes, first)), order=1, cval=outside).get_fdata(dtype=np.float32)


# ---- Where the slices are ----------------------------------------------------------------------------------


def brain_level(image, path):
    """How far the middle of the brain is above the middle of the scan, in mm.

    It is the middle of the head above a plane, which neither a tall vertex moves much nor a neck of any length below.
    The plane follows from the width of the head, which serves for small heads and for brains without skull, too. Where
    the scan ends above the plane, the head is continued as it ends.
    """
    extent = np.array(image.shape) * voxel_sizes(image.affine)
    shape = np.ceil(extent / COARSE - 1e-3).astype(int)
    data = resampled(image, 0, shape, [COARSE] * 3, outside=image.get_fdata(dtype=np.float32).min())
    labels, _ = ndimage.label(data > foreground_threshold(data))
    head = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1  # the largest piece: no noise, no marker beside it
    slices = np.flatnonzero(head.sum(axis=(0, 1)) * COARSE**2 >= TOP_AREA)
    if not slices.size:
        raise DataError(f"{path} shows no head: nothing in it is as large. Look at it, and leave it out.")
    top = slices[-1]
    upper = head[:, :, max(0, top - round(UPPER_HEAD / COARSE)) : top + 1]
    columns, rows = (np.flatnonzero(upper.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    length = (rows[-1] - rows[0] + 1) * COARSE
    is_slab = length > extent[1] - 4 * COARSE  # it fills the scan from front to back, however little that is
    if length > HEAD_LENGTH[1] or (length < HEAD_LENGTH[0] and not is_slab):
        raise DataError(
            f"{path} shows something that is {length:.0f} mm long from front to back; heads are {HEAD_LENGTH[0]:.0f} "
            f"to {HEAD_LENGTH[1]:.0f}. If it is a head, correct the voxel sizes in its header (mm); else leave it out."
        )
    height = round(BRAIN_HEIGHT * (columns[-1] - columns[0] + 1))
    areas = [ndimage.binary_fill_holes(head[:, :, z]).sum() for z in range(top, max(-1, top - height), -1)]
    areas = np.pad(areas, (0, height - len(areas)), mode="edge")
    return (top + 0.5 - np.average(np.arange(height), weights=areas) - shape[2] / 2) * COARSE


def knee_level(image, path):
    """How far the end of the thigh bone is above the middle of the scan, in mm: scans are centred on the joint."""
    return KNEE_LEVEL


CUTS = {
    "brain": Cut((256, 256, 32), (1.0, 1.0, 1.0), brain_level, lambda voxels: voxels.transpose(2, 0, 1), ".nii.png"),
    "knee": Cut(
        (260, 228, 40), (0.5, 0.5, 1.0), knee_level, lambda voxels: voxels[::-1, :, ::-1].transpose(2, 1, 0), ".png"
    ),
}


def foreground_threshold(data):
    """Value that separates the body from the air around it (Otsu 1979, doi 10.1109/TSMC.1979.4310076)."""
    some = data[::2, ::2, ::2].ravel()  # enough, and eight times as fast
    return threshold_otsu(np.minimum(some, np.percentile(some, 99)))
