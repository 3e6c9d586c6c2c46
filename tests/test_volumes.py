"""Volumes of known orientation, made from the MNI152 template in nilearn: slices, subjects, and what is refused."""

import csv
import gzip
import sys
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.processing import resample_to_output
from nilearn.datasets import load_mni152_template
from PIL import Image
from scipy import ndimage

from gan_utils import DataError
from gan_utils.data import DATASETS, load
from gan_utils.settings import choose_settings
from gan_utils.slices import list_splits, open_image, read_name
from prepare import volumes
from prepare.cutting import CUTS, brain_level, cut_volume
from prepare.rows import Row, free_split
from prepare.volume_paths import find_volumes
from scripts import cut_volumes

SMALL = {
    "brain": ((64, 64, 8), (4.0, 4.0, 4.0)),
    "knee": ((66, 58, 8), (2.0, 2.0, 4.0)),
}  # voxels, mm: 100 times faster
MARKER = {"brain": (-36, 40, 22), "knee": (-30, 24, 68)}  # mm: the patient's left, front, upper half of the slices
T88 = "PROCESSED/MPRAGE/T88_111"


@pytest.fixture(scope="module")
def template():
    """The brain alone at 4 mm, about 1000 in white matter."""
    image = load_mni152_template(resolution=4)
    return nibabel.Nifti1Image((image.get_fdata() * 1000).astype(np.float32), image.affine)


@pytest.fixture
def small(monkeypatch):
    """Coarser slices, as many as a brain of 4 mm needs; all else stays as it is."""
    for experiment, (shape, step) in SMALL.items():
        monkeypatch.setitem(CUTS, experiment, CUTS[experiment]._replace(shape=shape, step=step))


def with_ball(image, centre, value=2500, radius=9):
    """The same image with a bright ball around a point in mm."""
    points = apply_affine(image.affine, np.moveaxis(np.indices(image.shape), 0, -1))
    inside = np.linalg.norm(points - centre, axis=-1) < radius
    return nibabel.Nifti1Image(np.where(inside, value, image.get_fdata(dtype=np.float32)), image.affine)


def turned(image, axes, flips):
    """The same brain in the same place, stored with its axes in another order and direction; worked out by hand."""
    data, to_old = image.get_fdata(dtype=np.float32).transpose(axes), np.zeros((4, 4))
    to_old[3, 3] = 1
    for axis, (old, flipped) in enumerate(zip(axes, flips, strict=True)):
        to_old[old, axis] = -1 if flipped else 1
        to_old[old, 3] = data.shape[axis] - 1 if flipped else 0
        data = np.flip(data, axis) if flipped else data
    return nibabel.Nifti1Image(data, image.affine @ to_old)


def written(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def write_analyze(image, path, axes="LAS", orient=0):
    """A pair of big-endian int16 with a fourth axis of one, as OASIS-1 has them; `axes` is how the data really run."""
    ornt = nibabel.orientations.axcodes2ornt(axes)
    data = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), ornt))
    header = nibabel.AnalyzeHeader(endianness=">")
    header.set_data_dtype(">i2")
    pair = nibabel.AnalyzeImage(data.get_fdata()[..., None].round().astype(np.int16), None, header)
    pair.header.set_zooms((*data.header.get_zooms()[:3], 1))
    pair.header["orient"] = bytes([orient])
    return written(pair, path)


def subjects_in(folder, image, names):
    """A folder with a volume under each name; subjects differ a little."""
    for number, name in enumerate(names):
        data = (
            image.get_fdata(dtype=np.float32) * (1 + 0.02 * np.sin(np.arange(image.shape[1]) * (number + 1)))[:, None]
        )
        written(nibabel.Nifti1Image(data.astype(np.int16), image.affine), folder / name)
    return folder


def lines(to, experiment="brain"):
    """people.csv as {volume: line}."""
    with open(to / DATASETS[experiment].folder / "people.csv", newline="") as file:
        return {line["volume"]: line for line in csv.DictReader(file)}


def oasis_splits(to):
    """{split: {SliceName: path}}; refuses a subject in two splits."""
    return list_splits(to / "keras_png_slices_data", DATASETS["brain"], seed=1)


def contents(to):
    return {path.relative_to(to).as_posix(): path.read_bytes() for path in to.rglob("*") if path.is_file()}


# ---- One volume --------------------------------------------------------------------------------------------


ORDERS = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]


@pytest.mark.parametrize("experiment", ["brain", "knee"])
@pytest.mark.usefixtures("small")
def test_all_48_axis_orders_give_the_same_slices(template, tmp_path, experiment):
    marked = with_ball(template, MARKER[experiment])
    expected, plain = (cut_volume(written(i, tmp_path / "it.nii"), experiment) for i in (marked, template))
    slices, rows, columns = (np.mean(places) for places in np.nonzero(expected > plain.astype(float) + 40))
    upper, lower = slices > 4, rows > expected.shape[1] / 2 + 5  # the ball's place in stack and picture
    assert columns > expected.shape[2] / 2 + 5  # brain: nose to the right; knee: the patient's left on the right
    assert (upper, lower) == ((True, False) if experiment == "brain" else (False, True))
    for axes, flips in ORDERS:
        pictures = cut_volume(written(turned(marked, axes, flips), tmp_path / "turned.nii"), experiment)
        np.testing.assert_allclose(pictures, expected.astype(float), atol=1, err_msg=f"{axes} {flips}")


def test_slices_have_the_published_sizes(template, tmp_path):
    path = written(template, tmp_path / "it.nii.gz")
    for experiment, shape in {"brain": (32, 256, 256), "knee": (40, 228, 260)}.items():
        pictures = cut_volume(path, experiment)
        assert pictures.dtype == np.uint8
        assert pictures.shape == shape
        assert pictures.min() == 0
        assert pictures.max() > 240  # 255 is for the brightest of the whole volume
    head = np.argwhere(cut_volume(path, "brain")[16] > 60)
    assert 165 < np.ptp(head[:, 1]) < 190  # mm from back to front in the template, 136 from left to right
    assert 125 < np.ptp(head[:, 0]) < 150


def test_voxels_of_the_wanted_size_are_not_interpolated(tmp_path):
    draw = np.random.default_rng(0)
    for shape in ((256, 256, 32), (181, 217, 33)):
        data = draw.integers(0, 1000, shape).astype(np.float32)
        image = nibabel.Nifti1Image(data, np.diag([1, 1, 1, 1]))
        pictures = cut_volume(written(image, tmp_path / "it.nii"), "brain")
        low, high = np.percentile(data, 1), np.percentile(data[data > 500], 99.5)  # grey values: 4 of 1000 a level
        values = np.round(np.clip((data - low) / (high - low), 0, 1) * 255)
        middle = pictures[16, 100:150, 100:150]
        places = [(k, i, j) for k in (15, 16, 17) for i in (62, 63, 100) for j in (80, 81, 100)]
        assert min(np.abs(values[i : i + 50, j : j + 50, k] - middle.astype(float)).mean() for k, i, j in places) < 2


@pytest.mark.usefixtures("small")
def test_other_voxel_sizes_and_tilted_heads(template, tmp_path):
    marked = with_ball(template, MARKER["brain"])
    expected, plain = (cut_volume(written(i, tmp_path / "it.nii"), "brain").astype(float) for i in (marked, template))
    ball = expected > plain + 40
    for number, sizes in enumerate([(2, 3, 5), (3.5, 4.2, 2.5)]):
        other = resample_to_output(marked, sizes, order=1)
        pictures = cut_volume(written(other, tmp_path / f"{number}.nii"), "brain").astype(float)
        assert np.corrcoef(pictures.ravel(), expected.ravel())[0, 1] > 0.95
        assert pictures[ball].mean() > pictures[:, ::-1][ball].mean() + 30  # not mirrored: white matter there
    angle = np.radians(12)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tilted = nibabel.Nifti1Image(marked.get_fdata(dtype=np.float32), tilt @ marked.affine)
    pictures = cut_volume(written(tilted, tmp_path / "tilted.nii"), "brain")
    np.testing.assert_allclose(pictures, expected, atol=1)  # slices follow the axes of the scan


def test_brain_is_found_above_any_neck(template):
    head = np.pad(template.get_fdata(dtype=np.float32), ((6, 6), (6, 6), (40, 10)))
    affine = template.affine.copy()
    affine[:3, 3] -= np.array([6, 6, 40]) * 4
    x, y, z = np.moveaxis(apply_affine(affine, np.moveaxis(np.indices(head.shape), 0, -1)), -1, 0)
    skull = ndimage.distance_transform_edt(head < 200) * 4
    scalp = (z > -70) & (skull > 8) & (skull < 16)
    neck = (np.hypot(x / 60, (y + 20) / 65) < 1) & (z < -40)
    noise = np.random.default_rng(0).rayleigh(20, head.shape)
    marker = (np.abs(x - 90) < 8) & (np.abs(y - 90) < 8) & (z > 100)
    whole = head + noise + 900 * scalp + 600 * neck + 1500 * marker
    levels = []
    for data in (head, whole, whole[:, :, 25:]):
        first = affine.copy()
        first[2, 3] += 4 * (head.shape[2] - data.shape[2])
        image = nibabel.Nifti1Image(data.astype(np.float32), first)
        levels.append(apply_affine(first, (np.array(data.shape) - 1) / 2)[2] + brain_level(image, Path("it")))
    assert max(levels) - min(levels) < 5
    assert 4 < min(levels) < max(levels) < 17  # mm above the MNI origin: from the midbrain to the lateral ventricles


@pytest.mark.usefixtures("small")
def test_slices_stay_inside_a_flat_volume(template, tmp_path):
    """A scan that ends below the top of the head, or holds the wanted slices alone, is cut as far up as it goes."""
    flat = template.slicer[:, :, 20:28]
    pictures = cut_volume(written(flat, tmp_path / "it.nii"), "brain")
    assert (pictures.max(axis=(1, 2)) > 200).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("axes", "orient", "name"), [
    ("LAS", 0, "any"), ("LSA", 1, "any"), ("ASL", 2, "any"), ("LAS", 9, "OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc"),
    ("ASL", 0, "OAS1_0001_MR1_mpr_n4_anon_sbj_111"), ("ASL", 0, "OAS1_0001_MR1_mpr-1_anon"),
])  # fmt: skip
def test_analyze_pairs(template, tmp_path, axes, orient, name):
    marked = with_ball(template, MARKER["brain"])
    expected = cut_volume(written(marked, tmp_path / "it.nii"), "brain").astype(float)
    pair = write_analyze(marked, tmp_path / f"{name}.hdr", axes, orient)
    np.testing.assert_allclose(cut_volume(pair, "brain"), expected, atol=1)


@pytest.mark.usefixtures("small")
def test_nifti_pair(template, tmp_path):
    expected = cut_volume(written(template, tmp_path / "it.nii"), "brain").astype(float)
    pair = nibabel.Nifti1Pair(template.get_fdata(dtype=np.float32)[::-1], turned(template, (0, 1, 2), (1, 0, 0)).affine)
    np.testing.assert_allclose(cut_volume(written(pair, tmp_path / "pair.hdr"), "brain"), expected, atol=1)
    assert find_volumes(tmp_path)[0] == ["it.nii", "pair.hdr"]


def test_grey_values_are_of_the_volume_and_robust(template, tmp_path):
    hot = template.get_fdata(dtype=np.float32).copy()
    hot[24, 30, 20] = 1e6
    plain, spoilt = (
        cut_volume(written(nibabel.Nifti1Image(data, template.affine), tmp_path / "it.nii"), "brain").astype(float)
        for data in (template.get_fdata(dtype=np.float32), hot)
    )
    assert np.abs(plain - spoilt).mean() < 2
    assert plain[0].max() != plain[-1].max() or plain[0].mean() != plain[-1].mean()  # slices are not stretched singly


def test_fat_of_the_neck_does_not_darken_the_brain(template, tmp_path):
    bright = template.get_fdata(dtype=np.float32).copy()
    bright[:, :, :10][bright[:, :, :10] > 300] = 2500  # below 20 mm under the lowest slice
    plain, spoilt = (
        cut_volume(written(nibabel.Nifti1Image(data, template.affine), tmp_path / "it.nii"), "brain").astype(float)
        for data in (template.get_fdata(dtype=np.float32), bright)
    )
    assert np.median(spoilt[plain > 200]) > 190


def test_a_tall_vertex_moves_the_slices_little(template):
    levels = {}
    for stretch in (1, 1.1):  # the upper part alone: the brain's middle rises less than half as much as the top
        data = template.get_fdata(dtype=np.float32)
        upper = ndimage.zoom(data[:, :, 30:], (1, 1, stretch), order=1)
        image = nibabel.Nifti1Image(np.concatenate([data[:, :, :30], upper], axis=2), template.affine)
        middle = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)[2]
        levels[stretch] = middle + brain_level(image, Path("it"))
    assert abs(levels[1.1] - levels[1]) < 3


@pytest.mark.usefixtures("small")
def test_freesurfer_volume(template, tmp_path):
    expected = cut_volume(written(template, tmp_path / "it.nii"), "brain").astype(float)
    image = turned(template, (2, 0, 1), (True, False, True))
    image = nibabel.MGHImage(image.get_fdata(dtype=np.float32), image.affine)
    np.testing.assert_allclose(cut_volume(written(image, tmp_path / "it.mgz"), "brain"), expected, atol=1)


# ---- Volumes that cannot be cut ----------------------------------------------------------------------------


def spoilt(change):
    """Writes the template's voxels after `change`."""
    return lambda image, path: written(
        nibabel.Nifti1Image(change(image.get_fdata(dtype=np.float32)), image.affine), path
    )


def truncated(image, path):
    whole = written(image, path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def with_value(value):
    def change(data):
        data = data.copy()
        data[24, 30, 20] = value
        return data

    return spoilt(change)


def without_orientation(image, path):
    image = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), None)
    image.header["sform_code"] = image.header["qform_code"] = 0
    written(image, path)


def with_flipped_byte(image, path):
    whole = bytearray(written(image, path).read_bytes())
    whole[-6] ^= 1  # of the checksum: what is read before is all there
    path.write_bytes(whole)


def with_voxels_of(size):
    """The same voxels with another size, in what the header takes for mm."""
    return lambda image, path: written(
        nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), np.diag([size, size, size, 1])), path
    )


def coloured(image, path):
    colours = np.zeros(image.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    written(nibabel.Nifti1Image(colours, image.affine), path)


def phases(data):
    return np.random.default_rng(0).uniform(-np.pi, np.pi, data.shape).astype(np.float32)


def statistics(data):
    return np.where(data > 300, ndimage.gaussian_filter(phases(data), 1), 0)


def tomogram(data):
    """Air -1000, fat -90 around the brain, brain 30."""
    head = ndimage.binary_dilation(data > 200, iterations=3)
    return np.where(data > 200, 30, np.where(head, -90, -1000)) + 5 * phases(data)


def blocks(data):
    """A ball of blocks with a value each, more than 50 in all."""
    parts = ((np.indices(data.shape) // 10).transpose(1, 2, 3, 0) @ [1, 7, 49]) % 126 + 1
    centre = np.array(data.shape)[:, None, None, None] / 2
    return np.where(np.linalg.norm(np.indices(data.shape) - centre, axis=0) < 22, parts, 0).astype(np.uint8)


BAD = {
    "truncated": ("it.nii.gz", truncated, ("cannot be read as a volume", "Copy it again")),
    "truncated, not packed": ("it.nii", truncated, ("cannot be read as a volume", "Copy it again")),
    "text": ("it.nii", lambda image, path: path.write_text("no volume at all"), ("cannot be read", "Copy it again")),
    "packed text": ("it.nii.gz", lambda image, path: path.write_bytes(gzip.compress(b"text")), ("cannot be read",)),
    "no bytes": ("it.nii", lambda image, path: path.write_bytes(b""), ("cannot be read",)),
    "a folder": ("it.nii", lambda image, path: path.mkdir(), ("cannot be read", "it is a folder")),
    "broken link": ("it.nii", lambda image, path: path.symlink_to("nowhere"), ("it is a link that leads nowhere",)),
    "4-D": ("it.nii", spoilt(lambda data: np.stack([data, data], -1)), ("50 x 59 x 48 x 2", "nibabel.four_to_three")),
    "one slice": ("it.nii", spoilt(lambda data: data[..., 20]), ("three axes",)),
    "too flat": ("it.nii", spoilt(lambda data: data[..., 20:26]), ("24 mm high", "too flat")),
    "label map": ("it.nii", spoilt(lambda data: np.float32(np.digitize(data, [100, 500]))), ("label map", "3 values")),
    "NaN": ("it.nii", with_value(np.nan), ("NaN", "nan_to_num")),
    "infinity": ("it.nii", with_value(np.inf), ("infinity", "nan_to_num")),
    "constant": ("it.nii", spoilt(lambda data: np.full_like(data, 7)), ("empty",)),
    "zeros": ("it.nii", spoilt(np.zeros_like), ("empty",)),
    "no orientation": ("it.nii", without_orientation, ("which way its axes run", "sform")),
    "Analyze with another byte": ("it.hdr", lambda image, path: write_analyze(image, path, orient=5), ("which way", )),
    "a flipped byte": ("it.nii.gz", with_flipped_byte, ("cannot be read as a volume (CRC check", "Copy it again")),
    "a flipped byte, FreeSurfer": (
        "it.mgz",
        lambda image, path: with_flipped_byte(nibabel.MGHImage(np.float32(image.get_fdata()), image.affine), path),
        ("CRC check failed",),
    ),
    "colours": ("it.nii.gz", coloured, ("holds colours (RGB)", "Leave it out")),
    "complex": ("it.nii", spoilt(lambda data: data + 1j), ("complex numbers", "numpy.abs")),
    "phase map": ("it.nii", spoilt(phases), ("50% of what it shows", "a phase map", "magnitude")),
    "statistical map": ("it.nii", spoilt(statistics), ("negative in", "statistical map")),
    "CT": ("it.nii", spoilt(tomogram), ("negative in", "CT")),
    "label map of many values": ("it.nii", spoilt(blocks), ("label map", "83 values", "neighbours")),
    "micrometres": ("it.nii", with_voxels_of(4000), ("200,000 x 236,000 x 192,000 mm", "micrometres")),
    "voxels of 20 mm": ("it.nii", with_voxels_of(20), ("1,000 x 1,180 x 960 mm", "Write them there in mm")),
    "voxels of 9 mm": ("it.nii", with_voxels_of(9), ("mm long from front to back", "correct the voxel sizes")),
    "a head of a doll": ("it.nii", with_voxels_of(1.5), ("mm long from front to back", "120 to 280")),
    "half of a pair": (
        "it.hdr",
        lambda image, path: write_analyze(image, path).with_suffix(".img").unlink(),
        ("cannot be read",),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), BAD.values(), ids=BAD.keys())
def test_bad_volume_is_refused_by_name(template, tmp_path, name, make, words):
    make(template, tmp_path / name)
    with pytest.raises(DataError) as refusal:
        cut_volume(tmp_path / name, "brain")
    for word in (name, *words):
        assert word in str(refusal.value)


# ---- Subjects ----------------------------------------------------------------------------------------------


def test_published_shares():
    """Also where most subjects turn out to be unreadable, no split stays empty."""
    rows = []
    for number in range(354):
        split = free_split(rows, 354)
        rows.append(Row(f"{number}.nii", 0, str(number), number, split, "", 0))
    assert [sum(row.split == split for row in rows) for split in ("train", "validate", "test")] == [302, 35, 17]
    assert {row.split for row in rows[:3]} == {"train", "validate", "test"}


def oasis_tree(folder, image):
    """Sessions as OASIS-1 has them: four subjects, one of whom came twice."""
    marked = with_ball(image, MARKER["brain"])
    for number, session in enumerate(
        ["OAS1_0001_MR1", "OAS1_0002_MR1", "OAS1_0002_MR2", "OAS1_0005_MR1", "OAS1_0017_MR1"]
    ):
        place = folder / "disc1" / session
        subject = nibabel.Nifti1Image(marked.get_fdata() * (1 + 0.1 * number), image.affine)
        write_analyze(subject, place / T88 / f"{session}_mpr_n4_anon_111_t88_gfc.hdr")
        write_analyze(image, place / T88 / f"{session}_mpr_n4_anon_111_t88_masked_gfc.hdr")
        write_analyze(image, place / "PROCESSED/MPRAGE/SUBJ_111" / f"{session}_mpr_n4_anon_sbj_111.hdr", "ASL")
        write_analyze(image, place / "RAW" / f"{session}_mpr-1_anon.hdr", "ASL")
        write_analyze(image, place / "FSL_SEG" / f"{session}_mpr_n4_anon_111_t88_masked_gfc_fseg.hdr")
        (place / T88 / f"{session}_mpr_n4_anon_111_t88_gfc_tra_90.gif").write_bytes(b"GIF89a")
    return folder


@pytest.mark.usefixtures("small", "close_figures")
def test_oasis_as_it_is_distributed(template, tmp_path, capsys):
    source, to = oasis_tree(tmp_path / "oasis", template), tmp_path / "data"
    assert volumes.cut_folder(source, "brain", to) == {}
    table = lines(to)
    assert len(table) == 5
    assert all(name.endswith("_t88_gfc.hdr") for name in table)
    numbers = {line["person"]: line["number"] for line in table.values()}
    assert numbers == {"OAS1_0001": "1", "OAS1_0002": "2", "OAS1_0005": "5", "OAS1_0017": "17"}
    loaded = load(choose_settings("brain", "smoke", data=to))
    splits = loaded.train, loaded.validate, loaded.test
    assert sorted({subject for split in splits for subject in split.subjects}) == [1, 2, 5, 17]
    assert sum(map(len, splits)) == 5 * 8
    (two,) = (split for split in splits if 2 in split.subjects)
    assert two.slice_numbers[two.subjects == 2].tolist() == list(range(16))  # the second session continues the count
    said = capsys.readouterr().out
    assert "label maps by their names: disc1/OAS1_0001_MR1/FSL_SEG/" in said
    assert "(5 in all)" in said
    assert "other versions of OASIS-1 sessions" in said
    assert "(15 in all)" in said
    assert f"make run DATA={to}" in said
    assert (to / "preview_brain.png").stat().st_size > 1000
    expected = cut_volume(source / "disc1/OAS1_0001_MR1" / T88 / "OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc.hdr", "brain")
    files = [item for split in oasis_splits(to).values() for item in split.items()]
    read = np.stack([np.asarray(open_image(path)) for name, path in files if name.subject == 1])
    np.testing.assert_array_equal(read, expected)


@pytest.mark.usefixtures("small", "close_figures")
def test_all_volumes_of_a_subject_are_in_one_split(template, tmp_path):
    names = [f"{subject}/{volume}.nii" for subject in ("anna", "bert", "carl") for volume in (1, 2)]
    volumes.cut_folder(subjects_in(tmp_path / "heads", template, names), "brain", tmp_path / "data")
    splits = oasis_splits(tmp_path / "data")
    assert [len({name.subject for name in files}) for files in splits.values()] == [1, 1, 1]
    assert [[name.number for name in files] for files in splits.values()] == [list(range(16))] * 3


@pytest.mark.usefixtures("small", "close_figures")
def test_knees_get_akoa_names(template, tmp_path):
    names = {
        "a/OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz": "OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT",
        "b/OAI9014797_BaseLine_3_de3d1_SAG_3D_DESS_WE_RIGHT.nii.gz": "OAI9014797_BaseLine_1_de3d1_SAG_3D_DESS_WE_RIGHT",
        "OAI9961728_v00_SAG_3D_DESS_L_E_F_T.nii": "OAI9961728_BaseLine_1_de3d1_SAG_3D_DESS_WE_LEFT",
        "anna_left.nii.gz": "OAI0000001_BaseLine_1_de3d1_SAG_3D_DESS_WE_LEFT",
        "anna_right.nii.gz": "OAI0000001_BaseLine_1_de3d1_SAG_3D_DESS_WE_RIGHT",
        "bert/Right/dess.nii.gz": "OAI0000002_BaseLine_1_de3d1_SAG_3D_DESS_WE_RIGHT",
        "bert/Right/later.nii.gz": "OAI0000002_BaseLine_2_de3d1_SAG_3D_DESS_WE_RIGHT",
        "carl/dess.nii.gz": None,
        "dora_left_right.nii.gz": None,
    }
    source, to = subjects_in(tmp_path / "knees", template, names), tmp_path / "data"
    failures = volumes.cut_folder(source, "knee", to)
    assert failures.keys() == {name for name, new in names.items() if new is None}
    for name, why in failures.items():
        assert name in why
        assert "Put LEFT or RIGHT" in why
    assert {name: line["name"] for name, line in lines(to, "knee").items()} == {
        name: f"{new}.nii.gz_" for name, new in names.items() if new
    }
    files = {path.name for path in (to / "AKOA_Analysis").glob("*.png")}
    assert len(files) == 7 * 8
    assert all(read_name(name, DATASETS["knee"].name_pattern) for name in files)
    loaded = load(choose_settings("knee", "smoke", data=to, held_out_patients=1))
    splits = loaded.train, loaded.validate, loaded.test
    assert sorted({patient for split in splits for patient in split.subjects}) == [1, 2, 9014797, 9961728]
    with Image.open(next((to / "AKOA_Analysis").glob("*.png"))) as picture:
        assert picture.mode == "L"


# ---- A whole folder ----------------------------------------------------------------------------------------


SUBJECTS = [f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz" for number in range(1, 6)]


@pytest.fixture
def source(small, close_figures, template, tmp_path):
    return subjects_in(tmp_path / "bids", template, SUBJECTS)


def counted(monkeypatch, stop_at=None):
    """The volumes that are cut from now on; Ctrl-C comes instead of the `stop_at`th."""
    cut, seen = volumes.cut_volume, []

    def cut_and_count(path, experiment):
        seen.append(path.name)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return cut(path, experiment)

    monkeypatch.setattr(volumes, "cut_volume", cut_and_count)
    return seen


def test_second_call_cuts_only_what_is_missing(source, tmp_path, monkeypatch, template):
    to = tmp_path / "data"
    volumes.cut_folder(source, "brain", to)
    before, seen = contents(to), counted(monkeypatch)
    volumes.cut_folder(source, "brain", to)
    assert (seen, contents(to)) == ([], before)
    next(to.rglob("case_003_slice_5.nii.png")).unlink()
    volumes.cut_folder(source, "brain", to)
    assert (seen, contents(to)) == (["sub-03_T1w.nii.gz"], before)


@pytest.mark.parametrize("when", ["while cutting", "while writing"])
def test_stopped_and_continued_is_as_if_never_stopped(source, tmp_path, monkeypatch, when):
    volumes.cut_folder(source, "brain", tmp_path / "whole")
    with monkeypatch.context() as patch:
        if when == "while cutting":
            counted(patch, stop_at=3)
        else:
            save, saved = Image.Image.save, []

            def save_until_stopped(image, path, *arguments, **options):
                save(image, path, *arguments, **options)
                saved.append(path)
                if len(saved) == 21:
                    raise KeyboardInterrupt

            patch.setattr(Image.Image, "save", save_until_stopped)
        patch.setattr(sys, "argv", ["cut_volumes", str(source), "--to", str(tmp_path / "data")])
        with pytest.raises(SystemExit, match="continues"):
            cut_volumes.main()
    left = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(left) == 2 * 8 + 1  # two subjects and people.csv; no part of the third
    volumes.cut_folder(source, "brain", tmp_path / "data")
    assert contents(tmp_path / "data") == contents(tmp_path / "whole")


def test_bad_volumes_do_not_stop_the_others(source, tmp_path, monkeypatch, capsys):
    truncated(nibabel.load(source / SUBJECTS[1]), source / "sub-02/anat/sub-02_T1w.nii.gz")
    (source / "sub-06").mkdir()
    (source / "sub-06" / "notes.nii").write_text("no volume")
    monkeypatch.setattr(sys, "argv", ["cut_volumes", str(source), "--to", str(tmp_path / "data")])
    with pytest.raises(SystemExit) as end:
        cut_volumes.main()
    assert end.value.code == 1
    said = capsys.readouterr()
    assert "4 volumes of 4 subjects" in said.out
    assert "Volumes that could not be cut: 2" in said.err
    assert "sub-02_T1w.nii.gz cannot be read" in said.err
    assert "Missing (no usable volume): sub-02, sub-06." in said.err
    assert all(oasis_splits(tmp_path / "data").values())  # no split is empty
    with pytest.raises(SystemExit):  # tried again, and all else left as it is
        cut_volumes.main()


def test_subjects_stay_in_their_split_when_others_come(source, tmp_path, template):
    to = tmp_path / "data"
    volumes.cut_folder(source, "brain", to)
    before = lines(to)
    held_out = {line["person"] for line in before.values() if line["split"] != "train"}
    assert held_out != {"sub-01", "sub-02"}  # chance decides, not the order of names, which may be that of hospitals
    more = [f"sub-{number:02d}/sub-{number:02d}.nii" for number in (0, 7, 8, 9, *range(20, 32))]
    subjects_in(source, template, [*more, "sub-03/later.nii"])
    volumes.cut_folder(source, "brain", to)
    after = lines(to)
    assert {name: after[name] for name in before} == before
    assert after["sub-03/later.nii"] == before[SUBJECTS[2]] | {
        "volume": "sub-03/later.nii", "first": "8", "bytes": after["sub-03/later.nii"]["bytes"]
    }  # fmt: skip
    splits = oasis_splits(to)
    assert [len({name.subject for name in files}) for files in splits.values()] == [18, 2, 1]


@pytest.mark.parametrize(("change", "words"), [
    (lambda source, to: [(source / name).unlink() for name in SUBJECTS[:3]], ("2 subjects", "sub-04, sub-05", "three")),
    (lambda source, to: [(source / name).unlink() for name in SUBJECTS], ("No volumes", "dcm2niix")),
    (lambda source, to: source.rename(source.with_name("gone")), ("does not exist", "Correct FROM")),
    (lambda source, to: ((to / "keras_png_slices_data/keras_png_slices_train").mkdir(parents=True),
     Image.new("L", (8, 8)).save(to / "keras_png_slices_data/keras_png_slices_train/case_001_slice_0.nii.png")),
     ("holds slices already", "people.csv", "TO")),
    (lambda source, to: ((to / "keras_png_slices_train").mkdir(parents=True),
     Image.new("L", (8, 8)).save(to / "keras_png_slices_train/case_001_slice_0.nii.png")), ("holds slices already",)),
    (lambda source, to: ((to / "keras_png_slices_data").mkdir(parents=True),
     (to / "keras_png_slices_data/people.csv").write_text("volume;bytes\n1;2\n")), ("people.csv cannot be read",)),
])  # fmt: skip
def test_folder_that_cannot_be_cut_is_refused(source, tmp_path, monkeypatch, change, words):
    to = tmp_path / "data"
    change(source, to)
    before = contents(to) if to.exists() else {}
    monkeypatch.setattr(sys, "argv", ["cut_volumes", str(source), "--to", str(to)])
    with pytest.raises(SystemExit) as end:
        cut_volumes.main()
    for word in words:
        assert word in end.value.code
    assert (contents(to) if to.exists() else {}) == before


def test_another_volume_of_a_known_name_is_not_taken_for_it(source, tmp_path, template):
    to = tmp_path / "data"
    volumes.cut_folder(source, "brain", to)
    before = contents(to)
    written(with_ball(template, MARKER["brain"]), source / SUBJECTS[0])
    failures = volumes.cut_folder(source, "brain", to)
    assert "another file" in failures[SUBJECTS[0]]
    assert contents(to) == before
    size = (source / SUBJECTS[0]).stat().st_size  # what the message says for a corrected volume
    assert f"write {size} as its bytes" in failures[SUBJECTS[0]]
    table = to / "keras_png_slices_data" / "people.csv"
    table.write_text(table.read_text().replace(lines(to)[SUBJECTS[0]]["bytes"], str(size), 1))
    next(to.rglob("case_001_slice_0.nii.png")).unlink()
    assert volumes.cut_folder(source, "brain", to) == {}
    assert contents(to).keys() == before.keys()
    assert contents(to) != before


def test_numbers_of_oasis_are_never_given_to_two_subjects(source, tmp_path, template):
    to = tmp_path / "data"
    volumes.cut_folder(source, "brain", to)
    write_analyze(template, source / "OAS1_0003_MR1" / T88 / "OAS1_0003_MR1_mpr_n4_anon_111_t88_gfc.hdr")
    with pytest.raises(DataError, match=r"OAS1_0003 keeps the number 3, which sub-03 has already.*TO"):
        volumes.cut_folder(source, "brain", to)


def test_names_of_label_maps_and_of_scans(tmp_path):
    labels = ["aseg", "x_fseg", "seg4", "sub-1_dseg", "brain_mask", "aparc+aseg", "t1_labels", "segmentation", "mask"]
    scans = ["t88_masked_gfc", "unmasked", "sub-1_T1w", "segovia", "OAS1_0001_MR1_mpr-1_anon"]
    for name in (*labels, *scans, "._hidden"):
        (tmp_path / f"{name}.nii.gz").touch()
    found, left_out = find_volumes(tmp_path)
    assert found == sorted(f"{name}.nii.gz" for name in scans)
    assert left_out == {"label maps by their names": sorted(f"{name}.nii.gz" for name in labels)}
