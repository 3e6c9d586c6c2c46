"""Folders as people have them: which volumes or pictures are cut, from where, and what is said of the others."""

import csv
import sys

import nibabel
import numpy as np
import pytest
from filelock import FileLock
from nilearn.datasets import load_mni152_template
from PIL import Image

from gan_utils import DataError
from gan_utils.data import DATASETS, PICTURE_MARK, load
from gan_utils.settings import choose_settings
from gan_utils.slices import open_image
from prepare import volumes
from prepare.cut_report import sample
from prepare.cutting import CUTS
from prepare.rows import Row
from prepare.volume_paths import find_volumes
from scripts import cut_volumes

pytestmark = pytest.mark.usefixtures("close_figures")


@pytest.fixture
def coarse(monkeypatch):
    """Eight slices of 64x64, 100 times faster."""
    monkeypatch.setitem(CUTS, "brain", CUTS["brain"]._replace(shape=(64, 64, 8), step=(4.0, 4.0, 4.0)))


@pytest.fixture(scope="module")
def head():
    image = load_mni152_template(resolution=4)
    return nibabel.Nifti1Image((image.get_fdata() * 1000).astype(np.float32), image.affine)


def written(folder, head, names):
    """A head under each name, all different."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waves = 1 + 0.03 * np.sin(np.arange(head.shape[1]) * (len(path.stem) + number + 1) / 5)[:, None]
        nibabel.save(nibabel.Nifti1Image((head.get_fdata() * waves).astype(np.int16), head.affine), path)
    return folder


def touched(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def rows(to, experiment="brain"):
    with open(to / DATASETS[experiment].folder / "people.csv", newline="") as file:
        return list(csv.DictReader(file))


def run(monkeypatch, *options):
    """Exit code, or message, of the command."""
    monkeypatch.setattr(sys, "argv", ["cut_volumes", *map(str, options)])
    with pytest.raises(SystemExit) as end:
        cut_volumes.main()
    return end.value.code


# ---- What is taken -----------------------------------------------------------------------------------------

SUBJECTS = [f"sub-{number:02d}" for number in range(1, 7)]
BIDS = [
    "anat/{}_T1w.nii.gz", "anat/{}_T2w.nii.gz", "anat/{}_inplaneT2.nii.gz", "func/{}_task-rest_bold.nii.gz",
    "func/{}_task-rest_sbref.nii.gz", "fmap/{}_magnitude1.nii.gz", "fmap/{}_phasediff.nii.gz",
    "anat/{}_desc-brain_mask.nii.gz",
]  # fmt: skip


def test_of_a_bids_tree_the_t1w_are_taken(tmp_path):
    names = [f"{subject}/{name.format(subject)}" for subject in SUBJECTS for name in BIDS]
    derived = [
        f"derivatives/fmriprep/{s}/anat/{s}_space-MNI_{what}.nii.gz" for s in SUBJECTS for what in ("T1w", "probseg")
    ]
    tree = touched(tmp_path, [*names, *derived, "dataset_description.json"])
    found, left_out = find_volumes(tree)
    assert found == [f"{subject}/anat/{subject}_T1w.nii.gz" for subject in SUBJECTS]
    assert sum(map(len, left_out.values())) == len(names) + len(derived) - len(found)
    assert any("other contrasts than T1" in why and "SUFFIX=" in why for why in left_out)
    for suffix in ("T2w", "t2"):
        assert find_volumes(tree, suffix=suffix)[0] == [f"{s}/anat/{s}_T2w.nii.gz" for s in SUBJECTS]
    assert find_volumes(tree, suffix="inplaneT2")[0] == [f"{s}/anat/{s}_inplaneT2.nii.gz" for s in SUBJECTS]
    with pytest.raises(DataError, match=r"No volume is FLAIR by its name.* T1 \(6\).*Correct SUFFIX"):
        find_volumes(tree, suffix="FLAIR")


@pytest.mark.parametrize(("names", "experiment", "suffix", "taken"), [
    (["a_T1.nii", "a_FLAIR.nii", "b_T1.nii", "c.nii"], "brain", None, ["a_T1.nii", "b_T1.nii", "c.nii"]),
    (["a.nii", "a_flair.nii", "b.nii"], "brain", None, ["a.nii", "b.nii"]),
    (["a_T2.nii", "a_FLAIR.nii"], "brain", None, ["a_T2.nii"]),
    (["t1/a.nii", "flair/a.nii", "t2/a.nii"], "brain", "FLAIR", ["flair/a.nii"]),
    (["a_T1.nii", "a_DESS.nii"], "knee", None, ["a_DESS.nii"]),
    (["a_n4.nii", "a_raw.nii"], "brain", "_n4", ["a_n4.nii"]),
    (["a.nii", "a.nii.gz", "b.mgz", "b.hdr", "b.img"], "brain", None, ["a.nii.gz", "b.mgz"]),
    (["a/mri/T1.mgz", "a/mri/orig.mgz", "a/mri/aparc+aseg.mgz", "a/mri/brain.mgz"], "brain", None, ["a/mri/T1.mgz"]),
    (["a/mri/T1.mgz", "a/mri/orig/001.mgz", "fsaverage/mri/T1.mgz", "b/mri/orig/001.mgz"], "brain", None,
     ["a/mri/T1.mgz", "b/mri/orig/001.mgz"]),
    (["sub-1/sub-1_T1w.nii", "sub-1/c1sub-1_T1w.nii", "sub-1/mri/mwp1sub-1_T1w.nii"], "brain", None,
     ["sub-1/sub-1_T1w.nii"]),
])  # fmt: skip
def test_one_contrast_and_one_version_are_taken(tmp_path, names, experiment, suffix, taken):
    found, left_out = find_volumes(touched(tmp_path, names), experiment, suffix)
    assert found == taken
    assert sorted(sum(left_out.values(), found)) == sorted(name for name in names if not name.endswith(".img"))


LABELS = [
    "p_aal.nii", "p_T1_DLMUSE.nii", "ribbon.mgz", "lh.ribbon.nii", "p_lesion.nii", "p_pve_0.nii", "p_parcellation.nii",
    "desikan_p.nii", "p-groundtruth.nii", "p_ground_truth.nii", "p_GM_probseg.nii", "dlmuse_seg/p.nii", "labels/p.nii",
    "p_T1/mask.nii", "derivatives_masks/p.nii", "wmparc.mgz", "p_Schaefer2018.nii", "p_seg_2.nii",
    "labelsTr/p.nii", "p_gt.nii",
]  # fmt: skip


def test_label_maps_are_left_out_by_name_or_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"No volumes in .* are left to cut.*Left out: label maps by their names: .*in all"
    ):
        find_volumes(touched(tmp_path, LABELS))
    (tmp_path / "p.nii").touch()
    assert find_volumes(tmp_path)[0] == ["p.nii"]


def test_other_kinds_of_files_are_named(tmp_path):
    touched(tmp_path, ["p.nrrd", "q.mha", "x.nii/x.nii", "notes.txt", "r.png"])
    found, left_out = find_volumes(tmp_path)
    assert found == ["x.nii/x.nii"]
    assert sorted(left_out.values()) == [["p.nrrd", "q.mha", "r.png"], ["x.nii"]]
    (tmp_path / "x.nii/x.nii").rename(tmp_path / "x.nii/x.txt")
    (tmp_path / "r.png").unlink()
    with pytest.raises(DataError, match=r"folders with names of files: x\.nii; .*kinds.* p\.nrrd, q\.mha.*dcm2niix"):
        find_volumes(tmp_path)


def test_links_to_folders_are_named_and_what_was_made_here_is_not_cut_again(tmp_path):
    (tmp_path / "store").mkdir()
    made = ["cut/people.csv", "cut/case_1.png", "phantoms/SIMULATED.txt", "phantoms/case_2.png", "preview_brain.png"]
    source = touched(tmp_path / "scans", made)
    (source / "linked").symlink_to(tmp_path / "store")
    with pytest.raises(DataError, match=r"links to folders, which are not followed .*: linked\. Convert"):
        find_volumes(source)
    found, left_out = find_volumes(touched(source, ["p.png"]))
    assert found == ["p.png"]
    assert list(left_out.values()) == [["linked"]]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_names_that_are_no_unicode_are_refused_by_name(tmp_path):
    touched(tmp_path, ["M\udcfcller.nii"])
    with pytest.raises(DataError, match=r"The name of 'M\\udcfcller.nii' in .* is no Unicode. Rename it"):
        find_volumes(tmp_path)


@pytest.mark.usefixtures("coarse")
def test_what_tells_no_contrast_beside_what_does_is_named(head, tmp_path, capsys):
    names = ["p01/t1.nii", "p01/localizer.nii", "p02/t1.nii", "p03/later.nii"]
    source = written(tmp_path / "scans", head, names)
    volumes.cut_folder(source, "brain", tmp_path / "to")
    assert "of the same subjects: p01/localizer.nii. SUFFIX=T1 leaves them out." in capsys.readouterr().out
    assert find_volumes(source, suffix="T1")[0] == ["p01/t1.nii", "p02/t1.nii"]


@pytest.mark.usefixtures("coarse")
def test_a_contrast_is_not_added_to_volumes_whose_names_tell_none(head, tmp_path):
    source = written(tmp_path / "scans", head, [f"{who}{end}.nii" for who in "abc" for end in ("", "_FLAIR")])
    volumes.cut_folder(source, "brain", tmp_path / "to")
    with pytest.raises(DataError, match=r"holds slices of T1, and .* would add FLAIR"):
        volumes.cut_folder(source, "brain", tmp_path / "to", suffix="FLAIR")


@pytest.mark.usefixtures("coarse")
def test_contrasts_are_never_mixed_in_one_folder(head, tmp_path, monkeypatch, capsys):
    source = written(tmp_path / "modal", head, [f"{m}/{s}_x.nii.gz" for m in ("t1", "flair") for s in "abc"])
    to = tmp_path / "to"
    assert run(monkeypatch, source, "--to", to) == 0
    said = capsys.readouterr().out
    assert "other contrasts than T1" in said
    assert "Subjects by name: a_x (1 volume), b_x (1 volume), c_x (1 volume)." in said
    assert "Cut each contrast into a folder of its own (TO)" in run(
        monkeypatch, source, "--to", to, "--suffix", "FLAIR"
    )
    assert run(monkeypatch, source, "--to", tmp_path / "other", "--suffix", "FLAIR") == 0
    assert [row["volume"][:5] for row in rows(tmp_path / "other")] == ["flair"] * 3


# ---- Whose it is -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("coarse")
def test_user_decides_whose_volumes_are_and_cannot_decide_otherwise_later(head, tmp_path, monkeypatch):
    source = written(tmp_path / "scans", head, ["x/p1.nii", "x/p2.nii", "y/p3.nii", "z/p4.nii"])
    to = tmp_path / "to"
    assert "Whose are these volumes?" in run(monkeypatch, source, "--to", to)
    assert not to.exists()
    assert "folder, name, each-file" in run(monkeypatch, source, "--to", to, "--subjects", "chance")
    assert run(monkeypatch, source, "--to", to, "--subjects", "folder") == 0
    assert {row["volume"]: row["person"] for row in rows(to)} == {
        "x/p1.nii": "x", "x/p2.nii": "x", "y/p3.nii": "y", "z/p4.nii": "z"
    }  # fmt: skip
    assert "Say SUBJECTS as you did then" in run(monkeypatch, source, "--to", to, "--subjects", "name")


# ---- Volumes that fail -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("coarse")
def test_no_volume_ends_the_run(head, tmp_path, monkeypatch, capsys):
    source = written(tmp_path / "scans", head, ["a.nii", "b.nii", "c.nii", "d.nii"])
    (source / "e.nii").symlink_to("nowhere")
    cut = volumes.cut_volume

    def cut_or_fail(path, experiment):
        if path.name == "d.nii":
            raise MemoryError("Unable to allocate 1.50 PiB")
        return cut(path, experiment)

    monkeypatch.setattr(volumes, "cut_volume", cut_or_fail)
    assert run(monkeypatch, source, "--to", tmp_path / "to") == 1
    said = capsys.readouterr()
    assert "3 volumes of 3 subjects" in said.out
    assert "d.nii cannot be cut (Unable to allocate 1.50 PiB)" in said.err
    assert said.err.count("link that leads nowhere") == 1
    assert "Missing (no usable volume): d, e." in said.err


@pytest.mark.usefixtures("coarse")
def test_files_with_a_wrong_ending_are_told_apart_from_damaged_ones(head, tmp_path):
    source = written(tmp_path / "scans", head, ["a.nii", "b.nii", "c.nii", "d.nii.gz", "e.nii"])
    (source / "d.nii.gz").rename(source / "p.nii")
    (source / "e.nii").rename(source / "q.nii.gz")
    (source / "t.nii").write_bytes(b"\0\0\0")
    failures = volumes.cut_folder(source, "brain", tmp_path / "to")
    assert {name: text.rpartition("). ")[2] for name, text in failures.items()} == {
        "p.nii": "It is compressed, whatever its ending says: rename it.",
        "q.nii.gz": "It is not compressed, whatever its ending says: rename it.",
        "t.nii": "Copy it again from the source.",
    }


@pytest.mark.usefixtures("coarse")
def test_long_lists_are_capped(head, tmp_path, capsys):
    source = written(tmp_path / "scans", head, ["a.nii", "b.nii", "c.nii"])
    failures = volumes.cut_folder(touched(source, [f"q{n}.nii" for n in range(30)]), "brain", tmp_path / "to")
    said = capsys.readouterr().err
    assert len(failures) == 30
    assert said.count("cannot be read") == 10
    assert "could not be cut: 30" in said
    assert "... and 20 more" in said


# ---- Into one folder ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("coarse")
def test_one_number_never_stands_for_subjects_of_two_sources(head, tmp_path):
    to = tmp_path / "to"
    one = written(tmp_path / "one", head, ["sub-1/a.nii", "sub-2/a.nii", "sub-3/a.nii"])
    volumes.cut_folder(one, "brain", to)
    before = rows(to)
    other = written(tmp_path / "other", head, ["sub-3/b.nii", "sub-4/b.nii", "sub-5/b.nii"])
    with pytest.raises(DataError, match=r"sub-3 was cut from .*one already, and may be somebody else in .*other.*TO"):
        volumes.cut_folder(other, "brain", to)
    same_names = written(tmp_path / "same", head, ["sub-1/a.nii", "sub-2/a.nii", "sub-3/a.nii"])
    with pytest.raises(DataError, match="may be somebody else"):
        volumes.cut_folder(same_names, "brain", to)
    assert rows(to) == before
    with pytest.raises(DataError, match=r"sub-1 was cut from .* already, and may be somebody else"):
        volumes.cut_folder(written(tmp_path / "spelt", head, ["sub-01/a.nii", "sub-9/a.nii"]), "brain", to)
    third = written(tmp_path / "third", head, ["sub-7/a.nii", "sub-8/a.nii"])
    assert volumes.cut_folder(third, "brain", to) == {}
    assert [row["number"] for row in sorted(rows(to), key=lambda row: row["person"])] == ["1", "2", "3", "4", "5"]


@pytest.mark.usefixtures("coarse")
def test_discs_of_oasis_are_appended_and_a_moved_folder_is_known(head, tmp_path):
    to, version = tmp_path / "to", "T88_111/OAS1_{0:04d}_MR{1}_t88_gfc.nii"
    names = [f"OAS1_{n:04d}_MR{k}/" + version.format(n, k) for n, k in ((1, 1), (2, 1), (3, 1), (2, 2), (4, 1))]
    volumes.cut_folder(written(tmp_path / "disc1", head, names[:3]), "brain", to)
    volumes.cut_folder(written(tmp_path / "disc2", head, names[3:]), "brain", to)
    before = rows(to)
    assert {row["person"]: row["split"] for row in before if row["number"] == "2"}.keys() == {"OAS1_0002"}
    assert len({row["split"] for row in before if row["number"] == "2"}) == 1
    (tmp_path / "disc1").rename(tmp_path / "moved")
    volumes.cut_folder(tmp_path / "moved", "brain", to)
    assert [row | {"source": ""} for row in rows(to)] == [row | {"source": ""} for row in before]


@pytest.mark.usefixtures("coarse")
def test_a_volume_is_known_from_a_folder_above_and_below(head, tmp_path):
    names = [f"disc{n}/OAS1_{n:04d}_MR1/RAW/OAS1_{n:04d}_MR1_mpr-1_anon.nii" for n in (1, 2, 3)]
    source, to = written(tmp_path / "oasis", head, names), tmp_path / "to"
    volumes.cut_folder(source, "brain", to)
    for folder in (source / "disc2", source, tmp_path):
        volumes.cut_folder(folder, "brain", to)
        assert sorted(row["person"] for row in rows(to)) == ["OAS1_0001", "OAS1_0002", "OAS1_0003"]


@pytest.mark.usefixtures("coarse")
def test_dollars_and_blanks_in_names(head, tmp_path, capsys):
    source = written(tmp_path / "scans", head, ["x_{$^.nii", "y$ b$.nii", "z.nii"])
    assert volumes.cut_folder(source, "brain", tmp_path / "my slices") == {}
    assert "make run DATA='" in capsys.readouterr().out


@pytest.mark.usefixtures("coarse")
def test_tables_without_a_source_are_continued(head, tmp_path):
    source, to = written(tmp_path / "scans", head, ["a.nii", "b.nii", "c.nii"]), tmp_path / "to"
    volumes.cut_folder(source, "brain", to)
    table = to / "keras_png_slices_data/people.csv"
    table.write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in table.read_text().splitlines()))
    before = rows(to)
    volumes.cut_folder(source, "brain", to)
    assert rows(to) == [row | {"source": str(source)} for row in before]


@pytest.mark.usefixtures("coarse")
def test_two_calls_at_a_time_are_refused(head, tmp_path):
    source, to = written(tmp_path / "scans", head, ["a.nii", "b.nii", "c.nii"]), tmp_path / "to"
    to.mkdir()
    with FileLock(to / ".brain_slices.lock"), pytest.raises(DataError, match="Another `make slices` is writing to"):
        volumes.cut_folder(source, "brain", to)
    assert volumes.cut_folder(source, "brain", to) == {}
    assert not list(to.glob(".*"))


def test_preview_shows_every_kind_and_many_subjects():
    volumes = [f"{kind}/p{n:02d}.nii" for kind in ("x", "y", "z") for n in range(20)]
    chosen = sample([Row(name, 0, name[2:5], 0, "", "", 0) for name in volumes], 16)
    assert {row.volume[0] for row in chosen} == {"x", "y", "z"}
    assert len({row.subject for row in chosen}) >= 14


# ---- Pictures ----------------------------------------------------------------------------------------------


def pictures(folder, names, size=(90, 60)):
    draw = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, size[::-1], dtype=np.uint8)).save(folder / name, format="PNG")
    return folder


def test_pictures_become_slices_that_are_not_called_real(tmp_path, monkeypatch, capsys):
    names = [f"{who}/holiday {n}.PNG" for who in ("anna", "bert", "carl") for n in (1, 2, 10)]
    source, to = pictures(tmp_path / "photos", names), tmp_path / "to"
    assert run(monkeypatch, source, "--to", to) == 0
    said = capsys.readouterr().out
    assert "Subjects by folder: anna (3 pictures), bert (3 pictures), carl (3 pictures)." in said
    assert "9 pictures of 3 subjects (1 train, 1 validate, 1 test)" in said
    loaded = load(choose_settings("brain", "smoke", data=to))
    assert (loaded.title, loaded.phantoms, loaded.pixel_size) == ("pictures of your own", False, None)
    assert sorted(len(split) for split in (loaded.train, loaded.validate, loaded.test)) == [3, 3, 3]
    numbers = {row["volume"]: row["first"] for row in rows(to) if row["person"] == "anna"}
    assert numbers == {"anna/holiday 1.PNG": "0", "anna/holiday 2.PNG": "1", "anna/holiday 10.PNG": "2"}
    picture = np.asarray(open_image(loaded.train.paths[0]))
    assert picture.shape == (256, 256)
    assert picture[:40].max() == 0  # black bars: 90x60 keeps its shape
    assert picture[128].std() > 20
    before = {path: path.read_bytes() for path in to.rglob("*.png")}
    assert run(monkeypatch, source, "--to", to) == 0
    assert {path: path.read_bytes() for path in to.rglob("*.png")} == before


def test_pictures_without_subjects_need_a_decision(tmp_path, monkeypatch):
    source, to = pictures(tmp_path / "photos", [f"IMG_{n}.png" for n in range(6)]), tmp_path / "to"
    refused = run(monkeypatch, source, "--to", to)
    assert "names do not say which of them are of one subject" in refused
    assert "splits by subject are impossible" in refused
    assert run(monkeypatch, source, "--to", to, "--subjects", "each-file") == 0
    assert len({row["number"] for row in rows(to)}) == 6
    assert (to / "keras_png_slices_data" / PICTURE_MARK).exists()


def test_coloured_pictures_and_label_maps_are_not_taken(tmp_path, capsys):
    source = pictures(tmp_path / "photos", [f"{who}_{n}.png" for who in ("anna", "bert", "carl") for n in (1, 2)])
    pictures(source, ["anna_1_mask.png"])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)).save(source / "anna_3.png")
    failures = volumes.cut_folder(source, "brain", tmp_path / "to")
    assert list(failures) == ["anna_3.png"]
    assert "not an 8-bit grey image" in failures["anna_3.png"]
    assert "label maps by their names: anna_1_mask.png" in capsys.readouterr().out


@pytest.mark.usefixtures("coarse")
def test_pictures_and_volumes_are_not_mixed(head, tmp_path):
    photos = pictures(tmp_path / "photos", [f"{who}_{n}.png" for who in ("anna", "bert", "carl") for n in (1, 2)])
    volumes.cut_folder(photos, "brain", tmp_path / "to")
    scans = written(tmp_path / "scans", head, ["d.nii", "e.nii", "f.nii"])
    with pytest.raises(DataError, match=r"not made from volumes.*TO"):
        volumes.cut_folder(scans, "brain", tmp_path / "to")


def test_pictures_of_knees_have_a_side(tmp_path):
    names = [f"{who}_{side}_{n}.png" for who in ("anna", "bert", "carl") for side in ("left", "right") for n in (1, 2)]
    volumes.cut_folder(pictures(tmp_path / "photos", names, (520, 456)), "knee", tmp_path / "to")
    loaded = load(choose_settings("knee", "smoke", data=tmp_path / "to", held_out_patients=1))
    assert loaded.title == "pictures of your own"
    assert sorted(loaded.train.sides) == ["LEFT", "LEFT", "RIGHT", "RIGHT"]
    assert loaded.train.slice_numbers.tolist() == [0, 1, 0, 1]
    assert open_image(loaded.train.paths[0]).size == (260, 228)
