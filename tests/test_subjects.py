"""Whose a volume is: identities in known and made-up trees, and a refusal where a path has two readings."""

import contextlib
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_utils import DataError
from prepare.names import contrast_of, naming_words
from prepare.subjects import report_subjects, tell_subjects


def told(paths, **options):
    return tell_subjects(list(paths), **options)[0]


def partition(subjects):
    """The sets of paths that have one subject."""
    groups = defaultdict(set)
    for path, subject in subjects.items():
        groups[subject].add(path)
    return {frozenset(paths) for paths in groups.values()}


# ---- Trees whose subjects are known ------------------------------------------------------------------------

DESS = "SAG_3D_DESS_WE_RIGHT"
TREES = {
    "folders by modality": {f"modal/{m}/{s}_x.nii.gz": f"{s}_x" for m in ("t1", "t2", "flair") for s in "abc"},
    "the OAI's own tree": {
        "0.C.2/9000798/20041124/10056703.nii": "OAI9000798",
        "1.C.2/9000798/20051124/10056999.nii": "OAI9000798",
        "0.E.1/9000001/20041124/10056704.nii": "OAI9000001",
    },
    "OAI with and without letters": {"OAI9000798_V00_RIGHT.nii": "OAI9000798", "9000798_V01_RIGHT.nii": "OAI9000798"},
    "dcm2niix -f OAI%i_%t_%d": {f"OAI9000798_20041124101010_{DESS}.nii.gz": "OAI9000798"},
    "two suffixes": {f"00335511_{DESS}_x.nii.gz": "00335511", f"00335511_{DESS}_yy.nii.gz": "00335511",
                     f"00335512_{DESS}_x.nii.gz": "00335512"},
    "IXI": {"IXI002-Guys-0828-T1.nii.gz": "IXI002", "IXI002-Guys-0828-T2.nii.gz": "IXI002", "ixi012-HH.nii": "IXI012"},
    "ADNI": {
        "ADNI_002_S_0295_MR_MPR__Br_20060418193713_S1_I1.nii": "002_S_0295",
        "ADNI_002_S_0295_MR_MPR__Br_20070418193713_S2_I2.nii": "002_S_0295",
        "ADNI/002_s_0296/MPR/2006-01-01_10_00_00.0/S1/scan.nii": "002_S_0296",
    },
    "OASIS": {
        "disc1/oas1_0007_MR1/RAW/OAS1_0007_MR2_mpr-1_anon.hdr": "OAS1_0007",
        "disc2/OAS1_0007_MR2/RAW/OAS1_0007_MR2_mpr-1_anon.hdr": "OAS1_0007",
        "OAS2_0007_MR2/RAW/mpr-1.nifti.hdr": "OAS2_0007",
        "OAS30001_MR_d0129/anat2/sub-OAS30001_T1w.nii.gz": "OAS30001",
    },
    "BIDS": {"site/sub-03/ses-1/anat/sub-03_ses-1_T1w.nii.gz": "sub-03", "sub-03/later.nii": "sub-03"},
    "echoes": {"p01_e1.nii": "p01", "p01_e2.nii": "p01", "p02_e1.nii": "p02", "p02_e2.nii": "p02"},
    "folders by visit": {f"{v}/p0{n}.nii": f"p0{n}" for v in ("baseline", "followup") for n in (1, 2, 3)},
    "folders by split": {"train/a.nii.gz": "a", "train/b.nii.gz": "b", "test/c.nii.gz": "c"},
    "one subject in two splits": {"train/p01_v1.nii": "p01", "test/p01_v2.nii": "p01", "train/p02.nii": "p02"},
    "cohorts": {"ADNI/a.nii": "a", "ADNI/b.nii": "b", "HCP/c.nii": "c"},
    "groups": {"patients/p1/t1.nii": "p1", "patients/p2/t1.nii": "p2", "controls/p3/t1.nii": "p3"},
    "a folder each": {f"{s}/{n}.nii": s for s in ("anna", "bert", "carl") for n in (1, 2)},
    "a folder each, one name": {f"{s}/struct_x.nii": s for s in ("anna", "bert", "carl")},
    "folders within": {"anna/first/t1.nii.gz": "anna", "anna/second/t1.nii.gz": "anna", "bert/t1.nii": "bert"},
    "named like the folder": {"p01/p01_a.nii": "p01", "p01/p01_b.nii": "p01", "p02/p02_a.nii": "p02"},
    "FreeSurfer": {f"subjects/{s}/mri/T1.mgz": s for s in ("anna", "bert", "carl")},
    "glued": {"p01t1.nii": "p01", "p01t2.nii": "p01", "annaT1.nii": "anna", "annaFLAIR.nii": "anna"},
    "label and number": {f"{s}_{n}_T1.nii": f"{s}_{n}" for s in ("ctrl", "pat") for n in (1, 2, 3)},
    "numbered cohorts": {"OASIS-1/a.nii": "a", "site 2/c.nii": "c", "healthy_controls/d.nii": "d"},
    "cohorts in names": {f"{c}_{n}_T1.nii": f"{c}_{n}" for c in ("ADNI", "site2") for n in (1, 2, 3)},
    "splits of challenges": {"imagesTr/la_001.nii.gz": "la_001", "imagesTs/la_002.nii.gz": "la_002"},
    "visits by letter": {"p01_scanA.nii": "p01", "p01_scan_B.nii": "p01", "p02 time b.nii": "p02"},
    "knees": {"anna_left.nii.gz": "anna", "anna_R_I_G_H_T.nii.gz": "anna", "bert/Right/dess.nii": "bert",
              "bert/Right/later.nii": "bert", "carl/dess.nii.gz": "carl"},
    "groups in BIDS style": {f"sub-{g}-{n:02d}/anat/sub-{g}-{n:02d}_T1w.nii": f"sub_{g}_{n:02d}"
                             for g in ("pat", "ctrl", "hc") for n in (1, 2)},
    "visits behind the number": {f"P00{n}{v}.nii": f"P00{n}" for n in (1, 2, 3) for v in ("V1", "v2", "pre", "ses1")},
    "accents of macOS": {"baseline/M\u00fcller.nii": "M\u00fcller", "followup/Mu\u0308ller.nii": "M\u00fcller",
                         "baseline/Zo\u00eb.nii": "Zo\u00eb"},
    "patients with Parkinson's": {f"{g}_00{n}.nii": f"{'PD' if g == 'PD' else 'HC_'}00{n}"
                                  for g in ("PD", "HC") for n in (1, 2, 3)},
    "a folder called like a file": {f"{s}.nii/{s}.nii": s for s in ("anna", "bert", "carl")},
}  # fmt: skip


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())
def test_subjects_of_trees(tree):
    assert told(tree) == tree


TWO_READINGS = {
    "subjects at sites, or volumes of subjects": (
        ["berlin/p01.nii", "berlin/p02.nii", "leipzig/p03.nii"], "berlin holds p01, p02", (2, 3, 3)
    ),
    "unknown folders with the same subjects": (
        [f"{m}/{s}.nii" for m in ("xx", "yy", "zz") for s in ("p01", "p02", "p03")], "xx holds p01, p02, p03", (3, 3, 9)
    ),
    "scans, or subjects": (["anna_1.nii", "anna_2.nii", "bert_1.nii"], "anna_1 and anna_2 begin alike", (2, 2, 3)),
    "capitals": (["Anna_T1.nii", "anna_T2.nii", "bert.nii"], "Anna and anna begin alike", (3, 3, 3)),
    "zeros": (["p1_T1.nii", "p01_T2.nii", "p3.nii"], "p01 and p1 begin alike", (3, 3, 3)),
    "letters behind": (["p01a.nii", "p01b.nii", "p02a.nii"], "p01a and p01b begin alike", (3, 3, 3)),
    "only words for visits": (["scan1.nii", "scan2.nii", "scan3.nii"], "Nothing in the path of scan1.nii", (3, 3, 3)),
    "one name in two cohorts": (["ADNI/s1.nii", "HCP/s1.nii", "HCP/s2.nii"], "s1 is in ADNI and in HCP", (2, 2, 3)),
    "two published forms": (["OAS1_0001/OAS1_0002.nii", "a.nii", "b.nii"], "OAS1_0001 and OAS1_0002", (3, 3, 3)),
    "people of another folder": (
        ["p01.nii", "p02.nii", "p03.nii", "extra/p01.nii"], "is it of extra, or of p01", (4, 3, 4)
    ),
    "made by SPM": (["anna.nii", "wmanna.nii", "bert.nii"], "wmanna and anna end alike", (3, 3, 3)),
    "made by CAT12": (["p01.nii", "mri/mwp1p01.nii", "p02.nii"], "mwp1p01 and p01 end alike", (3, 3, 3)),
    "copies": (["bert.nii", "Copy of bert.nii", "carl.nii"], "Copy_of_bert and bert end alike", (3, 3, 3)),
    "other names in folders by modality": (["t1/anna_aa.nii", "t2/anna_bb.nii", "t1/b.nii"], "begin alike", (2, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize(("paths", "seen", "numbers"), TWO_READINGS.values(), ids=TWO_READINGS.keys())
def test_two_readings_are_refused_until_the_user_decides(paths, seen, numbers):
    with pytest.raises(DataError, match=re.escape(seen)) as refusal:
        told(paths)
    for choice, number in zip(("folder", "name", "each-file"), numbers, strict=True):
        assert f"SUBJECTS={choice}" in str(refusal.value)
        assert len(set(told(paths, choice=choice).values())) == number


def test_the_choice_of_the_user_decides_whose_a_volume_is():
    paths = ["berlin/p01.nii", "berlin/p02.nii", "leipzig/p02.nii", "OAS1_0003_MR1.nii"]
    assert list(told(paths, choice="folder").values()) == ["OAS1_0003", "berlin", "berlin", "leipzig"]
    assert list(told(paths, choice="name").values()) == ["OAS1_0003", "p01", "p02", "p02"]
    assert list(told(paths, choice="each-file").values())[1:] == ["berlin/p01", "berlin/p02", "leipzig/p02"]


def test_report_names_rule_and_counts(capsys):
    report_subjects(tell_subjects(["p01/1.nii", "p01/2.nii", "p02/1.nii", "IXI003-T1.nii"])[1])
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Subjects by published form: IXI003 (1 volume).",
        "Subjects by folder: p01 (2 volumes), p02 (1 volume).",
    ]


PICTURES = {
    "by folder": {f"p{n}/{name}.png": f"p{n}" for n in range(3) for name in ("x", "IMG 3", "ab3f")},
    "by the start of the name": {f"p0{n}_{k:03d}.png": f"p0{n}" for n in range(3) for k in range(4)},
    "by the name behind the number": {
        f"slice_{k}_{who}.png": who for who in ("anna", "bert", "carl") for k in range(4)
    },
    "OASIS slices": {f"train/case_00{n}_slice_{k}.nii.png": f"case_00{n}" for n in range(3) for k in range(4)},
}


@pytest.mark.parametrize("tree", PICTURES.values(), ids=PICTURES.keys())
def test_subjects_of_pictures(tree):
    assert told(tree, pictures=True) == tree


@pytest.mark.parametrize("names", [
    [f"IMG_{n:04d}.png" for n in range(9)],
    [f"{n:02d}_{who}.png" for n in range(3) for who in ("anna", "bert", "carl")],
    ["a3f0.png", "77b1.png", "0c2d.png"],
    [f"{grade}/p0{n}_{k:03d}.png" for grade in ("none", "small") for n in (1, 2) for k in (1, 2)],
])  # fmt: skip
def test_pictures_that_do_not_tell_subjects_are_refused(names):
    with pytest.raises(DataError, match=r"SUBJECTS=each-file .* splits by subject are impossible"):
        told(names, pictures=True)
    assert len(set(told(names, pictures=True, choice="each-file").values())) == len(names)


# ---- Made-up trees -----------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.lists(st.text("bdghjkqz", min_size=4, max_size=8), min_size=3, max_size=6, unique=True),
    st.lists(st.integers(1, 999), min_size=3, max_size=6, unique=True).map(lambda all: [f"p{n:03d}" for n in all]),
    st.lists(st.integers(1, 99), min_size=3, max_size=6, unique=True).map(lambda all: [f"subj_{n:02d}" for n in all]),
)
FORMS = ["OAS1_{:04d}", "OAS3{:04d}", "OAI9{:06d}", "9{:06d}", "IXI{:03d}", "002_S_{:04d}", "sub-{:02d}"]
CONTRASTS, VISITS = ["T1", "t2", "FLAIR", "mprage"], ["baseline", "followup", "ses-1", "v00", "2011-03-04", "visit2"]
SPLITS, COHORTS = ["train", "test", "validation"], ["ADNI", "HCP", "0.C.2", "cohort2", "controls"]
LAYOUTS = [
    "{subject}/{visit}/{contrast}", "{contrast}/{subject}", "{visit}/{subject}_{contrast}",
    "{subject}-{contrast}_{visit}", "data/{contrast}/{visit}/{subject}", "{split}/{subject}_{visit}",
    "{contrast}_{subject}_{visit}", "{visit}/{subject}/{contrast}", "{subject}_{visit}_{contrast}_right_x",
    "{split}/{contrast}/{subject}_{visit}",
]  # fmt: skip


def made_up(layout, subjects, words):
    """{path: subject} with every subject under every pair of words."""
    return {
        layout.format(subject=subject, contrast=contrast, visit=visit, split=split) + ".nii.gz": subject
        for subject in subjects
        for contrast, visit, split in words
    }


WORDS = st.lists(
    st.tuples(st.sampled_from(CONTRASTS), st.sampled_from(VISITS), st.sampled_from(SPLITS)), min_size=1, max_size=4
)


@given(st.sampled_from(LAYOUTS), NAMES, WORDS)
def test_words_that_name_nobody_never_tell_subjects(layout, subjects, words):
    tree = made_up(layout, subjects, words)
    assert partition(told(tree)) == partition(tree)


@given(
    st.sampled_from(LAYOUTS), st.sampled_from(list(FORMS)), st.sets(st.integers(1, 99), min_size=1), WORDS, st.data()
)
def test_published_forms_are_told_in_any_tree(layout, form, numbers, words, data):
    tree = made_up(layout, [form.format(number) for number in numbers], words)
    tree = {f"{data.draw(st.sampled_from([*COHORTS, 'unknown', 'x/y']))}/{path}": who for path, who in tree.items()}
    assert partition(told(tree)) == partition(tree)
    assert all(subject.endswith(tree[path]) for path, subject in told(tree).items())


@given(NAMES, st.lists(st.text("rsvwx", min_size=3, max_size=5), min_size=2, max_size=4, unique=True), st.data())
def test_unknown_words_are_refused_or_tell_subjects_rightly(subjects, others, data):
    layout = data.draw(st.sampled_from(["{other}/{subject}.nii", "{subject}_{other}.nii", "{other}_{subject}.nii"]))
    tree = {layout.format(other=other, subject=subject): subject for other in others for subject in subjects}
    with contextlib.suppress(DataError):
        assert partition(told(tree)) == partition(tree)


@given(NAMES, st.sampled_from(SPLITS + COHORTS + CONTRASTS + VISITS))
def test_a_single_file_each_below_a_word_that_names_nobody(subjects, word):
    tree = {f"{word}/{subject}.nii": subject for subject in subjects}
    assert partition(told(tree)) == partition(tree)


@given(st.lists(st.text("ab01_-/. T", min_size=1, max_size=12), min_size=1, max_size=6))
def test_any_path_has_one_subject_or_is_refused(names):
    paths = {f"{'/'.join(part or 'q' for part in name.split('/'))}.nii" for name in names}
    try:
        assert told(paths).keys() == paths
    except DataError:
        assert all(told(paths, choice=choice).keys() == paths for choice in ("folder", "name", "each-file"))
        assert all(all(told(paths, choice=choice).values()) for choice in ("folder", "name", "each-file"))


@pytest.mark.parametrize(("path", "contrast"), [
    ("sub-01/anat/sub-01_ses-2_T1w.nii.gz", "T1"), ("sub-01/func/sub-01_task-rest_bold.nii.gz", "BOLD"),
    ("sub-01_UNIT1.nii", "T1"), ("sub-01_inv-1_MP2RAGE.nii", "MP2RAGE"), ("PD_001.nii", None), ("p01_PD_2.nii", "PD"),
    ("sub-01_acq-x_T2starw.nii", "T2starw"), ("p01_T2_FLAIR.nii", "FLAIR"), ("p01_FLAIR_T2.nii", "FLAIR"),
    ("flair/p01.nii", "FLAIR"), ("t1/p01_T2.nii", "T2"), ("p01_t1ce.nii", "T1ce"), ("p01_mprage.nii", "T1"),
    ("OAS1_0001_MR1_mpr-1_anon.hdr", "T1"), ("00335511_SAG_3D_DESS_WE_RIGHT.nii", "DESS"), ("anna.nii", None),
])  # fmt: skip
def test_contrast_of_a_path(path, contrast):
    assert contrast_of(path) == contrast


def test_naming_words():
    assert naming_words("T1_anna_baseline_2.nii.gz") == ("anna",)
    assert naming_words("2011-03-04_p_01_visit 2_x.nii") == ("p", "01")
    assert naming_words("baseline") == ()
