"""One volume (NIfTI or Analyze) to its axial slices as the published layouts have them.

Wherever a file begins and whichever way its axes run, the slices come out the same: its header says how it is oriented.
In a canonical image x rises to the subject's right, y to the front, z to the top. Lengths are in mm.
"""

from collections.abc import Callable
from typing import NamedTuple

import nibabel
import numpy as np
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import axcodes2ornt
from nibabel.processing import resample_from_to
from scipy import ndimage
from skimage.filters import threshold_otsu

from gan_utils import DataError

COARSE = 3.0  # mm: grid on which the head is looked for
TOP_AREA = 400.0  # mm²: a slice with as much foreground belongs to the head, not to noise above it
UPPER_HEAD = 75.0  # mm below the top: above nose and neck, so that the length there is that of the skull
BRAIN_LEVEL = 0.38  # of that length: how far the middle of the brain is below the top, with scalp or without
KNEE_LEVEL = 34.0  # mm above the middle of the scan: slices end 14 mm above the joint line, where AKOA's end
MOST_LABELS = 50  # values: label maps of whole brains have about as many, scans hundreds
BRIGHTEST = 99.5  # percentile of the foreground that becomes white: single bright voxels do not darken the rest

# Which way the three axes of Analyze files run (nibabel's letters: what a rising index leads to), by the byte "orient"
# of the header: transverse, coronal, sagittal. nibabel does not read it, and takes all of them for transverse.
ANALYZE_AXES = {0: "LAS", 1: "LSA", 2: "ASL"}
# The same for OASIS-1 by a part of the name, whatever the byte says: as others found out with these files.
OASIS_AXES = {"_t88_": "LAS", "_sbj_": "ASL", "_mpr-": "ASL"}


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
        experiment: "brain": from low to high, the subject's left on top, nose to the right, 1 mm a pixel.
            "knee": from the thigh down, muscles on top, kneecap at the bottom, the subject's right on the left, 0.5 mm.

    Returns:
        uint8 (32, 256, 256) or (40, 228, 260); 0 is the 1st percentile of the volume, 255 the 99.5th of its foreground.

    Raises:
        DataError: it is unreadable, most often cut short while copying; holds several volumes, labels, one value, or
            values that are no numbers; is too flat for so many slices; or its header does not say how it is oriented.
    """
    cut = CUTS[experiment]
    image = nibabel.as_closest_canonical(read_volume(path))
    data = image.get_fdata(dtype=np.float32)
    low, high = np.percentile(data, 1), np.percentile(data[data > foreground_threshold(data)], BRIGHTEST)
    sizes = voxel_sizes(image.affine)
    room = ((data.shape[2] - 1) * sizes[2] - (cut.shape[2] - 1) * cut.step[2]) / 2  # up and down from the middle
    if room < -1e-3:
        raise DataError(
            f"{path} is {data.shape[2] * sizes[2]:.0f} mm high: too flat for {cut.shape[2]} slices {cut.step[2]:g} mm "
            "apart. Leave it out."
        )
    level = np.clip(cut.level(image, path), -max(room, 0), max(room, 0))
    pictures = cut.arrange(resampled(image, level, cut.shape, cut.step, low))
    return np.round(np.clip((pictures - low) / (high - low), 0, 1) * 255).astype(np.uint8)


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

    Measured from the top of the head, because a neck of any length may be below it, and as a part of the length of the
    head, which serves for small heads and for brains without skull, too. The MNI152 template is cut around 10 mm
    above its origin, alone as well as with 16 mm of skull and scalp, face and neck around it.
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
    rows = np.flatnonzero(head[:, :, max(0, top - round(UPPER_HEAD / COARSE)) : top + 1].any(axis=(0, 2)))
    length = (rows[-1] - rows[0] + 1) * COARSE
    return (top + 0.5 - shape[2] / 2) * COARSE - BRAIN_LEVEL * length


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


# ---- Reading -----------------------------------------------------------------------------------------------


def read_volume(path):
    """The volume as a `nibabel.Nifti1Image` of float32 (three axes), with the affine that its header says.

    Raises:
        DataError: as `cut_volume`.
    """
    try:
        image = nibabel.load(path)
        data = image.get_fdata(dtype=np.float32)
    except Exception as error:  # decoders raise nearly anything for bytes that are not theirs
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as a volume ({cause}). Copy it again from the source.") from error
    volumes = int(np.prod(data.shape[3:]))
    if data.ndim < 3 or volumes != 1:
        raise DataError(
            f"{path} has the shape {' x '.join(map(str, data.shape))}; one volume of three axes is needed. Write one "
            "volume to a file of its own (nibabel.four_to_three), or leave it out."
        )
    data = data.reshape(data.shape[:3])
    check_values(data, path)
    return nibabel.Nifti1Image(data, affine_of(image, path))


def check_values(data, path):
    """Refuse what is no scan: values that are no numbers, one value, or labels."""
    if not np.isfinite(data).all():
        raise DataError(
            f"{path} holds values that are no numbers (NaN or infinity). Where they stand for the background, replace "
            "them by 0 (numpy.nan_to_num); else leave it out."
        )
    if data.min() == data.max():
        raise DataError(f"{path} is empty: all of its voxels have one value. Copy it again, or leave it out.")
    values = len(np.unique(data[::2, ::2, ::2]))
    if values <= MOST_LABELS:
        raise DataError(
            f"{path} looks like a label map: it holds {values} values. Leave it out, it must not be trained on."
        )


def affine_of(image, path):
    """The affine from voxels to mm, as the header says.

    Analyze has no affine, only a byte "orient" that many programs ignore. For OASIS-1 the name decides instead.

    Raises:
        DataError: the header does not say which way the axes run, or says nonsense.
    """
    if isinstance(image, nibabel.Nifti1Pair):
        known = image.header["sform_code"] or image.header["qform_code"]
        affine = image.affine
    else:
        oasis = [axes for part, axes in OASIS_AXES.items() if "OAS1_" in path.name and part in path.name]
        axes = oasis[0] if oasis else ANALYZE_AXES.get(image.header["orient"].tobytes()[0])
        has_affine = path.with_suffix(".mat").exists()  # SPM's way to keep one, which nibabel reads
        known = axes or has_affine
        affine = image.affine if has_affine or not axes else analyze_affine(axes, image.header.get_zooms())
    if not known or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise DataError(
            f"{path} does not say which way its axes run, so left may be right. Find out, and write it into the header "
            "as sform (nibabel.Nifti1Image(data, affine)), or leave it out."
        )
    return affine


def analyze_affine(axes, zooms):
    """Affine of axes such as "ASL" and voxel sizes in mm; its origin does not matter here."""
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for column, ((row, sign), size) in enumerate(zip(axcodes2ornt(axes), zooms[:3], strict=True)):
        affine[int(row), column] = sign * size
    return affine
