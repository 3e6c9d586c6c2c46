"""Paths of volumes, or of pictures: which are to be cut, and why the others are not."""

import re
from collections import Counter

from gan_utils import DataError
from gan_utils.data import PHANTOM_MARK
from gan_utils.data import TABLE_OF_CUT_SLICES as TABLE
from gan_utils.slices import why_no_folder
from prepare.names import ENDING, contrast_named, contrast_of
from prepare.subjects import listed

VOLUME_ENDINGS = (".nii.gz", ".nii", ".mgz", ".hdr", ".img")  # of files that differ in these alone, the first is cut
OTHER_KINDS = re.compile(
    r"\.(nrrd|nhdr|mh[ad]|mgh|mnc|dcm|ima|np[yz]|h5|mat|zip|tar|7z|rar|png|jpe?g|tiff?|bmp)(\.gz)?$", re.I
)
# Words in the paths of label maps: aseg, fseg, dseg, seg4, brain_mask, aparc+aseg; not t88_masked_gfc, a scan.
LABEL_MAP = re.compile(
    r"(?<![a-z])([a-z]*seg(mentations?|mented)?|[a-z]*masks?|[a-z]*labels?(t[rs])?|[a-z]*parc|parcellations?|atlas(es)?|aal|dlmuse"
    r"|ribbon|lesions?|pve|prob(seg|maps?|ability)?|desikan(killiany)?|dkt|destrieux|schaefer"
    r"|ground[-_ ]?truths?|gt|rois?)[-_]?\d*(?![a-z])",
    re.I,
)
# What BIDS trees hold beside scans: by folder, entity, suffix, or what SPM puts before the name; and templates.
OTHER_THAN_SCANS = re.compile(
    r"(^|/)((derivatives|fsaverage\d?|cvs_avg35[^/]*)/|(m?w?r?c[1-6]|m?w?p[0-3])sub-"
    r"|sub-[^/]*_(part-(phase|real|imag)|bold|cbv|sbref|magnitude\d?|phase\w*|fieldmap|epi)[_.])",
    re.I,
)
# Versions of one scan, of which the first that is there is cut: in a session of OASIS-1, in a folder of FreeSurfer.
VERSIONS = {
    "OASIS-1 sessions": (
        re.compile(r"OAS1_\d{4}_MR\d+", re.I), ("_t88_gfc", "_t88_masked_gfc", "_sbj_111", "_mpr-1_anon")
    ),
    "FreeSurfer scans": (
        re.compile(r"^(.*?/)?mri/(?=.+\.mgz$)"), ("/T1.", "/nu.", "/orig.", "/rawavg.", "/norm.", "/brain.")
    ),
}  # fmt: skip
FIRST_CONTRASTS = {"brain": ("T1", "T2", "FLAIR"), "knee": ("DESS",)}


def find_volumes(source, experiment="brain", suffix=None):
    """Paths of the volumes below a folder that are to be cut, and {why: paths} of the others; without volumes, of PNG.

    Hidden files are passed over. Paths are text, relative to `source`, with / between.

    Args:
        source: `pathlib.Path` of the folder.
        experiment: "brain" or "knee": of several contrasts T1 or DESS is taken.
        suffix: a contrast to take instead, such as "FLAIR", or what the names of the volumes end in.

    Raises:
        DataError: there are none, or none that may be cut.
    """
    files = list_files(source)
    named = [path for path in files if path.lower().endswith(VOLUME_ENDINGS)]
    folders = {path for path in named if (source / path).is_dir()}
    pairs = {f"{path[:-4]}.img" for path in named if path.endswith(".hdr")}  # one volume each
    paths = [path for path in named if path not in folders | pairs] or list(filter(is_picture, files))
    others = {path for path in files if OTHER_KINDS.search(path)} - set(paths)
    links = {path for path in files if (source / path).is_symlink() and (source / path).is_dir()}
    left_out = {
        "folders with names of files": folders,
        "files of other kinds than are read": others,
        "links to folders, which are not followed (name their target as FROM)": links - folders,
    }
    any_named = bool(paths)
    for find in (label_maps, other_than_scans, second_copies, other_versions):
        for why, those in find(paths).items():
            left_out[why] = those
            paths = [path for path in paths if path not in those]
    if paths:
        why, those = other_contrasts(paths, experiment, suffix)
        left_out[why] = those
        paths = [path for path in paths if path not in those]
    left_out = {why: sorted(those) for why, those in left_out.items() if those}
    if not paths:
        seen = "; ".join(f"{why}: {listed(those)}" for why, those in left_out.items())
        if any_named:
            raise DataError(
                f"No volumes in {source} are left to cut. Left out: {seen}. Rename what is a scan, or correct FROM."
            )
        raise DataError(
            f"No volumes in {source}: files ending in {', '.join(VOLUME_ENDINGS)}, in folders of any depth; nor PNG "
            f"pictures. {f'There are {seen}. ' * bool(seen)}Convert other kinds to NIfTI, DICOM files with dcm2niix."
        )
    return paths, left_out


def is_picture(path):
    return path.lower().endswith(".png")


def list_files(source):
    """Paths of all that is below a folder, sorted, as text; without what is hidden, and what was made here.

    Raises:
        DataError: there is no such folder, or a name in it is no Unicode.
    """
    if not source.is_dir():
        raise DataError(f"The folder {source} {why_no_folder(source)}. Correct FROM.")
    found = sorted(path.relative_to(source).as_posix() for path in source.rglob("*"))
    if broken := [path for path in found if path != path.encode("utf-8", "replace").decode()]:
        raise DataError(f"The name of {broken[0]!a} in {source} is no Unicode. Rename it (on Linux: convmv).")
    made = {path.rpartition("/")[0] for path in found if path.endswith((f"/{TABLE}", f"/{PHANTOM_MARK}"))}
    passed_over = (".", "preview_brain.png", "preview_knee.png", *(f"{folder}/" for folder in made))
    return [path for path in found if not path.startswith(passed_over) and "/." not in path]


# ---- What is left out: {why: paths} ------------------------------------------------------------------------


def label_maps(paths):
    return {"label maps by their names": {path for path in paths if LABEL_MAP.search(ENDING.sub("", path))}}


def other_than_scans(paths):
    why = "what BIDS trees hold beside scans (derivatives, bold, sbref, field maps, ...), and templates"
    return {why: {path for path in paths if OTHER_THAN_SCANS.search(path)}}


def second_copies(paths):
    """All but the first of the volumes whose paths differ in their endings only: they would count twice."""
    first = {}
    for ending in (*VOLUME_ENDINGS, ".png"):
        for path in paths:
            if path.lower().endswith(ending):
                first.setdefault(ENDING.sub("", path), path)
    return {"the same in another format": set(paths) - set(first.values())}


def other_versions(paths):
    """All but one version of what is in `VERSIONS`."""
    left_out = {}
    for what, (pattern, versions) in VERSIONS.items():
        scans = {}
        for path in paths:
            if scan := pattern.search(path):
                scans.setdefault(scan[0].upper(), []).append(path)
        best = set()
        for those in scans.values():
            found = [[path for path in those if version in f"/{path}"] for version in versions]
            best |= set(next(filter(None, found), those))
        left_out[f"other versions of {what}"] = {path for those in scans.values() for path in those} - best
    return left_out


def other_contrasts(paths, experiment, suffix):
    """Why, and all that have another contrast than `suffix`, or than the first where there are several."""
    contrasts = {path: contrast_of(path) for path in paths}
    numbers = Counter(contrasts.values())
    first, *others = FIRST_CONTRASTS[experiment]
    if suffix:
        wanted = (contrast_named(suffix) or suffix).casefold()
        taken = {path for path, contrast in contrasts.items() if contrast and contrast.casefold() == wanted}
        taken = taken or {path for path in paths if ENDING.sub("", path).casefold().endswith(suffix.casefold())}
        if not taken:
            there = ", ".join(f"{contrast or 'no contrast'} ({number})" for contrast, number in numbers.most_common())
            raise DataError(f"No volume is {suffix} by its name. By their names there are: {there}. Correct SUFFIX.")
        return f"not {suffix}, as SUFFIX asks", set(paths) - taken
    # Names without a contrast are most often of the usual one.
    order = [*([None] if None in numbers else []), *others, *(contrast for contrast, _ in numbers.most_common())]
    usual = first if first in numbers else next(contrast for contrast in order if contrast in numbers)
    left = {path for path, contrast in contrasts.items() if contrast not in (usual, None)}
    example = contrasts[min(left)] if left else ""
    what = usual or "the volumes whose names tell none"
    return f"other contrasts than {what} (for another one say SUFFIX={example} and another folder TO)", left
