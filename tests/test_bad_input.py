"""Files that should not be there: each is refused by name, with the fix, or tolerated as data/README.md says."""

import errno
import os
import shutil
import struct
import subprocess
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import prepare
from conftest import assert_refused, make_akoa_folder, make_oasis_folder, settings_for, train_file
from gan_utils import DataError, data, slices
from gan_utils.slices import load_image

GREY = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
NOISE = Image.fromarray(GREY)
BLACK = Image.new("L", (40, 40))
LABELS = Image.fromarray(GREY // 64 * 85)  # 0, 85, 170, 255, as OASIS has them
SLICE, FIRST = "case_002_slice_10.nii.png", "case_001_slice_0.nii.png"
TRAIN, VALIDATE, TEST = (f"keras_png_slices_{split}" for split in ("train", "validate", "test"))
UNREADABLE = (SLICE, "cannot be read as a PNG image", "Copy it again")
NOT_GREY = (SLICE, "is not an 8-bit grey image", "Convert it")
LINK = "a link that leads nowhere"


def chunk(name, data):
    """One part of a PNG file, with the right check sum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks, size=(40, 40), rows=b"", bits=8):
    """A PNG file of zeros that says it has `size` pixels; with `chunks` before the picture."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(image, kind="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def holds(content, name=SLICE):
    """Puts bytes or an image under a name into the training slices."""
    return lambda file: file.with_name(name).write_bytes(content if isinstance(content, bytes) else saved(content))


def copied(*names):
    """Copies the slice to other names, next to it or in another split."""
    return lambda file: [shutil.copy(file, file.parent / name) for name in names]


def all_slices(*images):
    """Replaces the three slices of subject 2."""
    names = [f"case_002_slice_{number}.nii.png" for number in (0, 2, 10)]
    return lambda file: [image.save(file.with_name(name)) for name, image in zip(names, images, strict=True)]


def instead(make):
    """Removes the slice before `make` puts something else there."""
    return lambda file: (file.unlink(), make(file))


def in_two_splits(image):
    """The same picture as a slice of two subjects."""
    return lambda file: [
        image.save(file.parents[1] / name) for name in (f"{TRAIN}/{SLICE}", f"{TEST}/case_441_slice_2.nii.png")
    ]


def moved(file):
    return file.parents[1].rename(file.parents[2] / "Köpfe und 脑 (2)")


def split_links_to_itself(file):
    shutil.rmtree(file.parent)
    file.parent.symlink_to(file.parent)


def emptied(*splits):
    return lambda file: [path.unlink() for split in splits for path in (file.parents[1] / split).iterdir()]


def drawn(draw, *splits):
    """Replaces all slices of the splits; `draw` makes each of its number, counted from 0."""
    return lambda file: [
        draw(number).save(path)
        for split in splits
        for number, path in enumerate(sorted((file.parents[1] / split).iterdir()))
    ]


def noise_between(low, high):
    rng = np.random.default_rng(2)
    return lambda number: Image.fromarray(rng.integers(low, high + 1, (40, 40), dtype=np.uint8))


def flat(number):
    return Image.new("L", (40, 40), 10 + 3 * number)


ALL = TRAIN, VALIDATE, TEST


# What it is: (what is done in a good folder, to a slice or next to it; words of the error, None where it is tolerated)
TABLE = {
    # the content of a file
    "zero bytes": (holds(b""), UNREADABLE),
    "text": (holds(b"no picture at all"), UNREADABLE),
    "truncated": (holds(saved(NOISE)[:500]), UNREADABLE),
    "first slice truncated": (holds(saved(NOISE)[:500], FIRST), (FIRST, *UNREADABLE[1:])),
    "JPEG": (holds(saved(NOISE, "JPEG")), (*UNREADABLE, "not a PNG file")),
    "animated GIF": (holds(saved(NOISE, "GIF", save_all=True, append_images=[LABELS])), (*UNREADABLE, "not a PNG")),
    "animated PNG": (holds(saved(NOISE, save_all=True, append_images=[BLACK])), (*UNREADABLE, "animation")),
    "animated PNG of no pictures": (holds(png(chunk(b"acTL", bytes(8)), rows=bytes(41 * 40))), (*UNREADABLE, "anim")),
    "60000x60000 pixels": (holds(png(size=(60000, 60000))), (*UNREADABLE, "60000x60000")),
    "Pillow only warns": (holds(png(size=(11000, 11000))), (*UNREADABLE, "11000x11000")),
    "first slice huge": (holds(png(size=(11000, 11000)), FIRST), (FIRST, "11000x11000")),
    "another size": (holds(NOISE.resize((41, 40))), (SLICE, "41x40", "40x40", "one size")),
    "16-bit grey": (holds(Image.fromarray(GREY.astype(np.uint16))), (*NOT_GREY, "I;16")),
    "1-bit": (holds(NOISE.convert("1")), NOT_GREY),
    "palette": (holds(NOISE.convert("P")), (*NOT_GREY, "P")),
    "grey with transparency": (holds(NOISE.convert("LA")), (*NOT_GREY, "LA")),
    "grey with a transparent level": (holds(saved(NOISE, transparency=0)), (*NOT_GREY, "L with transparency")),
    "black with a transparent level": (holds(saved(BLACK, transparency=0)), (*NOT_GREY, "L with transparency")),
    "4-bit grey with a transparent level": (
        holds(png(chunk(b"tRNS", b"\0\3"), rows=bytes(21 * 40), bits=4)),
        (*NOT_GREY, "L with transparency"),
    ),
    "RGB of equal channels with a transparent colour": (
        holds(saved(NOISE.convert("RGB"), transparency=(0, 0, 0))),
        (*NOT_GREY, "RGB with transparency"),
    ),
    "palette with a transparent colour": (
        holds(saved(NOISE.convert("P"), transparency=0)),
        (*NOT_GREY, "P with transparency"),
    ),
    "first slice with a transparent level": (
        holds(saved(NOISE, transparency=0), FIRST),
        (FIRST, *NOT_GREY[1:], "L with transparency"),
    ),
    "RGBA": (holds(NOISE.convert("RGBA")), (*NOT_GREY, "RGBA")),
    "colour": (holds(Image.merge("RGB", (NOISE, NOISE, BLACK))), (*NOT_GREY, "RGB")),
    "RGB of equal channels": (holds(NOISE.convert("RGB")), None),
    "4-bit grey": (holds(png(rows=bytes(21 * 40), bits=4)), None),
    # label maps and copies
    "label maps named like slices": (
        all_slices(LABELS, LABELS, LABELS),
        ("case_002_slice_2", "looks like a label map"),
    ),
    "masks named like slices": (all_slices(BLACK, BLACK, LABELS.point(bool)), ("case_002_slice_2", "label map")),
    "label map among slices": (holds(LABELS), None),
    "label map under its own name": (copied("seg_001_slice_0.nii.png"), ("seg_001_slice_0.nii.png", "Rename", FIRST)),
    "label maps in their own folder": (
        lambda file: shutil.copytree(file.parent, file.parents[1] / f"{TRAIN}_seg"),
        None,
    ),
    "black slices at the ends": (all_slices(BLACK, NOISE, BLACK), None),
    "black scan": (all_slices(BLACK, BLACK, BLACK), None),
    "copy in another split": (in_two_splits(NOISE), (SLICE, "case_441_slice_2.nii.png", "same picture", "remove")),
    "black in two splits": (in_two_splits(BLACK), None),
    "nearly black in two splits": (in_two_splits(LABELS.point(bool)), None),
    "copy in one split": (copied("case_002_slice_11.nii.png", "case_003_slice_0.nii.png"), None),
    "numbers 002 and 2": (copied("case_2_slice_10.nii.png"), (SLICE, "case_2_slice_10.nii.png", "twice", "Remove one")),
    "subject in two splits": (copied(f"../{TEST}/{SLICE}"), ("Case 2", TRAIN, TEST, "in one folder")),
    "one subject only": (emptied(VALIDATE, TEST), (VALIDATE, "holds no slices", "other subjects")),
    # grey levels
    "all black": (drawn(lambda number: BLACK, *ALL), (TRAIN, FIRST, "black or flat", "again")),
    "training slices black": (drawn(lambda number: BLACK, TRAIN), (TRAIN, "black or flat")),
    "validation slices black": (drawn(lambda number: BLACK, VALIDATE), (VALIDATE, "black or flat")),
    "test slices black": (drawn(lambda number: BLACK, TEST), (TEST, "black or flat")),
    "test slices of one grey each": (drawn(flat, TEST), (TEST, "black or flat")),
    "training slices of one grey each": (drawn(flat, TRAIN), (TRAIN, "black or flat")),
    "test slices alike": (drawn(lambda number: LABELS, TEST), (TEST, "label map")),
    "training slices alike": (drawn(lambda number: NOISE, TRAIN), (TRAIN, "one and the same", "two different ones")),
    "validation slices alike": (drawn(lambda number: NOISE, VALIDATE), (VALIDATE, "one and the same")),
    "dark": (drawn(noise_between(0, 10), *ALL), (TRAIN, "from 1 to 10 only", "Stretch")),
    "dark, with a few bright pixels": (
        drawn(lambda number: Image.fromarray(np.where(number == GREY, 255, GREY % 30).astype(np.uint8)), TRAIN),
        (TRAIN, "from 1 to 29 only"),
    ),
    "very dark": (drawn(noise_between(0, 3), *ALL), (TRAIN, "0 to 3", "stretch the grey levels")),
    "one split dark": (drawn(noise_between(0, 40), TEST), (TEST, "from 1 to 40 only", "Stretch")),
    "white without contrast": (drawn(noise_between(230, 255), VALIDATE), (VALIDATE, "from 230 to 255 only")),
    "rather dark": (drawn(noise_between(0, 90), *ALL), None),
    "some slices of one grey each": (all_slices(*map(flat, range(3))), None),
    # names, links and folders
    "screenshot": (copied("screenshot.png"), ("screenshot.png", "Rename", FIRST)),
    "other case": (copied("case_003_slice_0.nii.PNG"), ("case_003_slice_0.nii.PNG", "Rename", FIRST)),
    "what systems leave": (copied(".DS_Store", f"._{SLICE}", "Thumbs.db", "notes.txt", "case_003_slice_0.jpg"), None),
    "spaces and non-ASCII in the path": (moved, None),
    "folder named like a slice": (instead(Path.mkdir), (*UNREADABLE, "not a file")),
    "pipe named like a slice": (instead(os.mkfifo), (*UNREADABLE, "not a file")),
    "dangling link": (instead(lambda file: file.symlink_to("nowhere")), (*UNREADABLE, LINK)),
    "link to itself": (instead(lambda file: file.symlink_to(file)), (*UNREADABLE, LINK)),
    "folder that links to itself": (lambda file: (file.parent / "again").symlink_to(file.parent), None),
    "split that links to itself": (split_links_to_itself, (TRAIN, LINK, "Expected")),
    "split missing": (lambda file: shutil.rmtree(file.parents[1] / TEST), (TEST, "does not exist", "Expected")),
    "split without slices": (emptied(TEST), (TEST, "holds no slices", "Expected")),
}


@pytest.mark.parametrize(("make", "expected_words"), TABLE.values(), ids=TABLE.keys())
def test_bad_input_is_refused_by_name_or_tolerated(oasis_folder, make, expected_words):
    make(train_file(oasis_folder))
    if expected_words:
        assert_refused(oasis_folder, *expected_words)
    else:
        (folder,) = oasis_folder.parent.iterdir()  # it may have another name now
        assert data.load(settings_for(folder)).train.images.shape[1:] == (40, 40, 1)


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "bmp", "tif", "dcm", "npy", "nii", "nii.gz"])
@pytest.mark.parametrize("place", ["", "AKOA_Analysis", TRAIN])
def test_slices_of_another_format_are_named_with_what_to_do(tmp_path, place, ending):
    experiment = "brain" if place == TRAIN else "knee"
    make = {"brain": make_oasis_folder, "knee": make_akoa_folder}[experiment]
    for path in sorted(make(tmp_path if place == TRAIN else tmp_path / place).rglob("*.png")):
        path.rename(path.with_suffix(f".{ending}"))
    (tmp_path / place / ".DS_Store").touch()
    named = min(path.name for path in (tmp_path / place).glob(f"*.{ending}"))
    fix = "convert other pictures to 8-bit grey PNG", "DICOM", "make slices"
    assert_refused(tmp_path, str(tmp_path / place), named, *fix, "Expected", experiment=experiment)


def test_copy_of_a_knee_under_another_number_is_refused(tmp_path):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", patients=(1, 3, 5))  # each in a split of its own
    one, other = (next(folder.glob(f"OAI000000{patient}*_2.png")) for patient in (1, 3))
    shutil.copy(one, other)
    assert_refused(folder, one.name, other.name, "same picture", experiment="knee")


@pytest.mark.parametrize("grey", [0, 90, None])
def test_flat_knees_are_refused_although_they_get_black_bars(tmp_path, grey):
    folder = make_akoa_folder(tmp_path / "AKOA_Analysis", slices=range(9))
    for number, path in enumerate(sorted(folder.iterdir())):
        Image.new("L", (65, 57), 5 * number if grey is None else grey).save(path)
    assert_refused(folder, str(folder), "train", "black or flat", "again", experiment="knee")


@pytest.mark.parametrize("data", ["link", "a" * 5000, "a\0b"])
def test_data_folder_that_cannot_be_is_refused(tmp_path, data):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    assert_refused(tmp_path / data, data, "Correct DATA")


@pytest.mark.parametrize("name", [TRAIN, f"{TRAIN}/{SLICE}"])
def test_what_may_not_be_read_is_named(oasis_folder, monkeypatch, name):
    path = oasis_folder / name
    if os.geteuid():
        path.chmod(0)
    else:  # nothing is forbidden to root

        def refuse(*arguments, **options):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(*((Path, "iterdir") if path.is_dir() else (slices, "open")), refuse, raising=False)
    assert_refused(oasis_folder, path.name, "cannot be read", "Permission denied")


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder with room for 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes the rights to do so")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("experiment", ["brain", "knee"])
def test_full_disk_leaves_no_half_set(tiny_disk, monkeypatch, experiment):
    monkeypatch.setattr(data, "project_path", tiny_disk.joinpath)
    settings = settings_for(None, experiment, phantom_subjects=6)
    with pytest.raises(DataError, match=rf"{experiment}_phantoms_40px_6subjects.*No space left on device.*Make room"):
        prepare.phantoms(settings)
    assert [path.name for path in (tiny_disk / "data").iterdir() if not path.name.endswith(".lock")] == []


@pytest.fixture(scope="module")
def any_file(tmp_path_factory):
    return tmp_path_factory.mktemp("any") / SLICE


def assert_read_or_refused(path, content):
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")  # an error would end as a refusal and prove nothing
        try:
            image = load_image(path, (40, 40), 40)
            outcome = image.dtype, image.shape
        except DataError as refusal:
            outcome = str(refusal)
    assert outcome == (np.uint8, (40, 40)) or path.name in outcome
    assert not leaked


VALID = saved(NOISE)
CHUNK_NAMES = b"IHDR PLTE IDAT tRNS gAMA cHRM sRGB pHYs iCCP tEXt zTXt iTXt eXIf acTL fcTL fdAT IEND xxXx".split()
chunks = st.builds(chunk, st.sampled_from(CHUNK_NAMES), st.binary(max_size=40))


@given(st.binary() | st.lists(chunks, max_size=4).map(lambda drawn: png(*drawn, rows=bytes(41 * 40))))
@example(VALID)
@example(png(chunk(b"acTL", bytes(8)), chunk(b"acTL", bytes(12))))
def test_any_bytes_are_an_image_or_refused(any_file, content):
    assert_read_or_refused(any_file, content)


@given(st.integers(0, len(VALID)), st.integers(0, 60) | st.just(len(VALID)), st.binary(max_size=30))
def test_a_damaged_png_is_an_image_or_refused(any_file, place, length, content):
    """Some bytes give way to others: a flip, an insertion, a part that is missing or the whole rest."""
    assert_read_or_refused(any_file, VALID[:place] + content + VALID[place + length :])
