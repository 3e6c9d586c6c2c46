"""What names of files and folders say of a volume: a published subject, a contrast, words that name nobody."""

import re
import unicodedata

ENDING = re.compile(r"\.(nii\.gz|nii|hdr|img|mgz|png)$", re.I)
SIDE = re.compile(r"(?<![a-z])(right|left|r_i_g_h_t|l_e_f_t)(?![a-z])", re.I)
# Forms of published data sets; the first found counts: OASIS-1, -2, -3, ADNI, IXI, OAI (letters or not), BIDS.
FORMS = (
    *(r"OAS[12]_\d{4}", r"OAS3\d{4}", r"\d{3}_S_\d{4}", r"IXI\d{3}", r"OAI\d{1,18}", r"9\d{6}"),
    r"sub-[A-Z0-9]++(?!-[A-Z0-9])",  # a label of letters and digits: sub-pat-01 is no BIDS
)
PUBLISHED = [re.compile(rf"(?<![A-Z0-9])({form})(?!\d)", re.I) for form in FORMS]

# ---- Words that name nobody --------------------------------------------------------------------------------

CONTRASTS = {  # our word: how names say it; those without one of ours keep their own
    "T1": r"t1[wn]?|unit1|mp2?rage\d*|mpr|f?spgr|bravo",
    "T2": r"t2w?",
    "FLAIR": r"(t2)?flair|t2f|fl",
    "PD": r"pdw?",
    "DESS": r"dess",
    "T1ce": r"t1w?(ce|c|gd)|gd|gad",
    "": r"t2s|t2star|t[12]map|t1rho|sw[ia]|swan|dwi|dti|adc|bold|fmri|asl|tof|mra|flash|tse|stir|gre|vibe|mt|ct|pet",
}
VISIT = (
    r"(ses|session|visit|tp|timepoint|time|scan|run|rec|acq|series|echo|month|year|day|week|wave|fu|followup|baseline|bl|pre"
    r"|post|preop|postop|screening|repeat|retest|rescan|slice)([a-d]|\d*)|follow|up|first|second|third|last|later|early|late|initial"
    r"|mr\d?|[evy]\d{1,2}|m(0|00|03|06|12|18|24|30|36|48|60|72)|(19|20)\d\d[01]\d[0-3]\d\d*"
)
SPLIT = r"imagest[rs]|(train|training|test|testing|val|valid|validate|validation|dev|eval|holdout|fold|split)\d*"
MADE = (  # how it was taken, processed or stored
    r"anat|func|mri|niftis?|nii|raw|rawdata|data|images?|imgs?|volumes?|vols?|heads?|brains?|knees?|scans|orig|original|native"
    r"|preprocessed|preproc|processed|mni|mni152|space|nu|norm|normali[sz]ed|n[34]|anon|defaced|\d+mm|cropped|resampled"
    r"|registered|reg|warped|stripped|skullstripped|bet|corrected|final|structural|struct|sag|cor|tra|ax|axial|sagittal"
    r"|coronal|[23]d|we|fs|l|r|side"
)
NOBODY = re.compile("|".join([*CONTRASTS.values(), VISIT, SPLIT, MADE]), re.I)
GROUP = re.compile(
    r"(adni|adnigo|hcp|oasis|ixi|abide|aibl|ukb|oai|camcan|nacc|ppmi|brats|cohort|site|cent(er|re)|hospital|clinic|group"
    r"|study|dataset|batch|dis[ck]|phase)\d*|controls?|ctrls?|hc|patients?|cases?|subjects?|subs?|healthy|ad|mci|cn|nc|ms"
    r"|males?|females?|\d\.[cep]\.\d",  # the last: cohorts of the OAI
    re.I,
)
LABEL = re.compile(r"sub|subj|subject|pat|patient|case|control|ctrl|hc|id|p|s", re.I)  # belongs to the number behind it
GLUED = re.compile(  # a contrast or visit behind a digit or a small letter: p01t1, annaT2, p01pre, p01v2
    r"(?<=\d)(?=(?i:t1|t2|flair|pd|dess)w?(?![A-Za-z0-9]))|(?<=[a-z])(?=(T1|T2|FLAIR|Flair|PD|DESS)w?(?![A-Za-z0-9]))"
    r"|(?<=\d)(?=(?i:(ses|visit|scan|time|tp|mr|pre|post|bl|fu)\d*|[vtm]\d+)(?![A-Za-z0-9]))"
)
PATIENT = re.compile(r"^PD[-_ ]?(?=\d)")  # with Parkinson's disease: PD_001; PD elsewhere is proton density
DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.][01]\d[-_.][0-3]\d(?!\d)")


def words(name):
    """The words of a file's or folder's name, without sides, dates and ending."""
    name = PATIENT.sub("PD", unicodedata.normalize("NFC", name))  # macOS writes an accent as a character of its own
    for what in (ENDING, SIDE, DATE, GLUED):
        name = what.sub("_", name)
    return re.findall(r"[^\W_]+", name)


def naming_words(name):
    """The words of a name that may name a subject: from the first that says nothing else to the next that does.

    Example:
        >>> naming_words("T1_anna_baseline_2.nii.gz")
        ('anna',)
    """
    found, before = [], ""
    for word in words(name):
        counts = word.isdigit() or len(word) == 1  # visit 2, slice 17, scan B
        counts = counts and re.fullmatch(VISIT, before, re.I) and not before[-1].isdigit()
        if not NOBODY.fullmatch(word) and not counts:
            found.append(word)
        elif found:
            break
        before = word
    return tuple(found)


def contrast_of(path):
    """The contrast that a path names: T1, T2, FLAIR, DESS, ...; in BIDS what its name ends in; None: there is none."""
    *folders, name = path.split("/")
    if name.lower().startswith("sub-") and "_" in name:
        suffix = ENDING.sub("", name).rsplit("_", 1)[1]
        is_inversion = re.search(r"_inv-\d", name)  # of MP2RAGE: UNIT1 is the T1 image
        return suffix if is_inversion else contrast_named(suffix) or suffix
    for part in (name, *reversed(folders)):
        if found := [contrast for word in words(part) if (contrast := contrast_named(word))]:
            return "FLAIR" if "FLAIR" in found else found[-1]
    return None


def contrast_named(word):
    return next((own or word.upper() for own, theirs in CONTRASTS.items() if re.fullmatch(theirs, word, re.I)), None)


# ---- Published forms ---------------------------------------------------------------------------------------


def published_subjects(path):
    """The subjects that a published form names in a path, as {'OAS1_0007'} or {'OAI9000798'}; empty: there is none."""
    return next(({spelt(match) for match in found} for form in PUBLISHED if (found := form.findall(path))), set())


def spelt(match):
    """One spelling for each subject: capitals, but not in BIDS labels, and the letters of the OAI."""
    if match.lower().startswith("sub-"):
        return f"sub-{match[4:]}"
    return f"OAI{match}" if match.isdigit() else match.upper()
