"""One file (NIfTI, Analyze, MGZ) to the values and the affine of a volume; what is no scan is refused."""

import gzip

import nibabel
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import axcodes2ornt

from gan_utils import DataError
from gan_utils.slices import why_no_folder

GZIP = b"\x1f\x8b"  # what compressed files begin with
LARGEST = 1000.0  # mm along an axis: no scanner sees as much
MOST_NEGATIVE = 0.05  # of the head's voxels: 0.001 in scans at most, 0.11 in phase maps, z-maps and CT at least
MOST_EQUAL = 0.5  # of neighbours: in label maps 0.8 and more have one value, in scans at most 0.3

# Which way the three axes of Analyze files run (nibabel's letters: what a rising index leads to), by the byte "orient"
# of the header: transverse, coronal, sagittal. nibabel does not read it, and takes all of them for transverse.
ANALYZE_AXES = {0: "LAS", 1: "LSA", 2: "ASL"}
# The same for OASIS-1 by a part of the name, whatever the byte says: as others found out with these files.
OASIS_AXES = {"_t88_": "LAS", "_sbj_": "ASL", "_mpr-": "ASL"}


def read_volume(path):
    """The volume as a `nibabel.Nifti1Image` of float32 (three axes), with the affine that its header says.

    Raises:
        DataError: it is unreadable, most often cut short while copying; holds several volumes, colours, labels, one
            value, or values that are no numbers; is larger than any scan; or does not say how it is oriented.
    """
    try:
        if not path.is_file():
            raise OSError("it is a folder" if path.is_dir() else f"it {why_no_folder(path)}")
        image = nibabel.load(path)
        check_header(image, path)
        affine = affine_of(image, path)
        if path.suffix.lower() in (".gz", ".mgz"):
            with gzip.open(path) as file:
                image = type(image).from_stream(file)
                data = image.get_fdata(dtype=np.float32)
                while file.read(2**20):  # to its end: only there the checksum is compared
                    pass
        else:
            data = image.get_fdata(dtype=np.float32)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything for bytes that are not theirs
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as a volume ({cause}). {what_to_do(path)}") from error
    data = data.reshape(data.shape[:3])
    check_values(data, path)
    return nibabel.Nifti1Image(data, affine)


def what_to_do(path):
    """With a file that cannot be read: its ending may be wrong, else it was damaged."""
    if path.is_file():
        with open(path, "rb") as file:
            start = file.read(2)
        if len(start) == 2 and (start == GZIP) != (path.suffix.lower() in (".gz", ".mgz")):
            return f"It is {'not ' * (start != GZIP)}compressed, whatever its ending says: rename it."
        if path.suffix != path.suffix.lower():
            return "Write its ending in small letters."
    return "Copy it again from the source."


def check_header(image, path):
    """Refuse, before it is read, what is not one volume of numbers."""
    if len(image.shape) < 3 or np.prod(image.shape[3:]) != 1:
        raise DataError(
            f"{path} has the shape {' x '.join(map(str, image.shape))}; one volume of three axes is needed. Write one "
            "volume to a file of its own (nibabel.four_to_three), or leave it out."
        )
    kind = image.get_data_dtype()
    if kind.fields or kind.kind == "c":
        raise DataError(
            f"{path} holds {'colours (RGB)' if kind.fields else 'complex numbers'}; a scan of grey values is needed. "
            f"{'Leave it out' if kind.fields else 'Write their magnitude (numpy.abs) to a file'}."
        )


def check_values(data, path):
    """Refuse what is no scan: values that are no numbers, one value, many below zero, or labels."""
    if not np.isfinite(data).all():
        raise DataError(
            f"{path} holds values that are no numbers (NaN or infinity). Where they stand for the background, replace "
            "them by 0 (numpy.nan_to_num); else leave it out."
        )
    lowest = data.min()
    if lowest == data.max():
        raise DataError(f"{path} is empty: all of its voxels have one value. Copy it again, or leave it out.")
    if lowest < 0:
        some = data[::2, ::2, ::2]
        strong = some[np.abs(some) > np.percentile(np.abs(some), 99) / 10]  # not the noise of the air
        if (strong < 0).mean() > MOST_NEGATIVE:
            raise DataError(
                f"{path} is negative in {(strong < 0).mean():.0%} of what it shows: a phase map, statistical map, CT, "
                "or a scan that was normalised. Leave it out, or cut the magnitude image that it was made from."
            )
    some = data[:, ::2, ::2]
    foreground = some[some > lowest]
    shown = some >= (np.median(foreground) if foreground.size else np.inf)
    equal = (some[1:] == some[:-1])[shown[1:] & shown[:-1]]
    if equal.size and equal.mean() > MOST_EQUAL:
        raise DataError(
            f"{path} looks like a label map: it holds {len(np.unique(some))} values, and {equal.mean():.0%} of "
            "neighbours have the same. Leave it out, it must not be trained on."
        )


def affine_of(image, path):
    """The affine from voxels to mm, as the header says.

    Analyze has no affine, only a byte "orient" that many programs ignore. For OASIS-1 the name decides instead.

    Raises:
        DataError: the header does not say which way the axes run, or says nonsense.
    """
    affine = image.affine
    if isinstance(image, nibabel.MGHImage):
        known = image.header["goodRASFlag"] == 1
    elif isinstance(image, nibabel.Nifti1Pair):
        known = image.header["sform_code"] or image.header["qform_code"]
    else:
        oasis = [axes for part, axes in OASIS_AXES.items() if "OAS1_" in path.name and part in path.name]
        axes = oasis[0] if oasis else ANALYZE_AXES.get(image.header["orient"].tobytes()[0])
        has_affine = path.with_suffix(".mat").exists()  # SPM's way to keep one, which nibabel reads
        known = axes or has_affine
        if axes and not has_affine:
            affine = analyze_affine(axes, image.header.get_zooms())
    if not known or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise DataError(
            f"{path} does not say which way its axes run, so left may be right. Find out, and write it into the header "
            "as sform (nibabel.Nifti1Image(data, affine)), or leave it out."
        )
    extent = voxel_sizes(affine) * image.shape[:3]
    if max(extent) > LARGEST:
        size = " x ".join(f"{length:,.0f}" for length in extent)
        raise DataError(
            f"{path} is {size} mm large by its header, more than any scan: its voxel sizes may be "
            "in micrometres. Write them there in mm, or leave it out."
        )
    return affine


def analyze_affine(axes, zooms):
    """Affine of axes such as "ASL" and voxel sizes in mm; its origin does not matter here."""
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for column, ((row, sign), size) in enumerate(zip(axcodes2ornt(axes), zooms[:3], strict=True)):
        affine[int(row), column] = sign * size
    return affine
