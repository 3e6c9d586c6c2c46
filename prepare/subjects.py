"""Whose a volume or a picture is, by its path: a published form, else its folder, else its name.

One subject in two splits is the worst fault that slices can have. So words that name nobody (T1, baseline, train, ADNI,
...) are never subjects, and where two readings are possible, nothing is guessed: the user decides.
"""

import re
from collections import Counter, defaultdict
from itertools import takewhile
from os.path import commonpath
from typing import NamedTuple

from gan_utils import DataError, counted
from prepare.names import ENDING, GROUP, LABEL, NOBODY, naming_words, published_subjects, words

CHOICES = ("folder", "name", "each-file")  # values of SUBJECTS
NAMED = 3  # of a long list; the others are counted
# What SPM and CAT12 put before the name of the scan that a volume was made from: wanna, c1anna, mwp1anna.
MADE_FROM = re.compile(r"(s\d*|m|w|r|u|i?y_?|r?c[1-6]|m?w?p[0-3])+", re.I)


class Place(NamedTuple):
    """What a path says of whom it shows, apart from published forms."""

    folder: str  # the first folder that may name a subject; empty: none
    top: str  # the first folder, whatever it is called
    inside: str  # what names something below that folder: further folders, and the file
    name: tuple[str, ...]  # naming words of the file
    group: str  # folders such as ADNI or controls: whoever is in two of them may be two


def tell_subjects(paths, choice=None, pictures=False):
    """Whose each path is.

    Args:
        paths: text, relative to the folder that is cut, with / between.
        choice: one of `CHOICES`, for all that no published form names; None: as far as there is one reading only.
        pictures: True where each file is one slice and several make a subject.

    Returns:
        {path: subject}, and {"by folder": [subject of each path that was told so], ...}.

    Raises:
        DataError: there is more than one reading, or none.

    Example:
        >>> tell_subjects(["t1/anna.nii", "t2/anna.nii", "t1/OAS1_0007_MR1.nii"])[0]
        {'t1/OAS1_0007_MR1.nii': 'OAS1_0007', 't1/anna.nii': 'anna', 't2/anna.nii': 'anna'}
    """
    forms = {path: published_subjects(path) for path in paths}
    published = {path: next(iter(found)) for path, found in forms.items() if len(found) == 1}
    above = commonpath([path.rpartition("/")[0] for path in paths]) if len(paths) > 1 else ""
    places = {path: place_of(path, path[len(above) :].strip("/"), pictures) for path in paths if path not in published}
    starts = starts_of({place.name for place in places.values()})
    full = {path: "_".join(place.name) for path, place in places.items()}
    start = {path: "_".join(starts[place.name]) for path, place in places.items()}
    each = {path: ENDING.sub("", path) for path in places}
    whole = {path: place.top or each[path] for path, place in places.items()}
    by_folder = {path: place.folder for path, place in places.items() if place.folder}
    by_name = {path: name for path, name in (start if pictures else full).items() if name and path not in by_folder}
    if choice == "each-file":
        by_folder, by_name = {}, each
    elif choice == "name":
        by_folder, by_name = {}, {path: start[path] or by_folder.get(path) or whole[path] for path in places}
    elif choice == "folder":
        by_name = {path: start[path] or whole[path] for path in places if path not in by_folder}
    elif seen := why_unclear(forms, places, by_folder, by_name, pictures):
        given = {
            "folder": {by_folder.get(path) or start[path] or whole[path] for path in places},
            "name": {start[path] or by_folder.get(path) or whole[path] for path in places},
        }
        offers = [f"SUBJECTS={what} ({listed(sorted(them))})" for what, them in given.items()]
        raise DataError(
            f"Whose are these {'pictures' if pictures else 'volumes'}? {seen} One subject must not be in two splits: "
            "nothing is guessed. Give each subject a folder of their own, named after them (folders such as site1 or "
            f"visit3 name nobody), or say {', '.join(offers)} or "
            f"SUBJECTS=each-file ({counted(len(places), 'subject')}): with the last, splits by "
            "subject are impossible where two files show one."
        )
    how = {"by published form": published, "by folder": by_folder, "by name": by_name}
    if choice == "each-file":
        how["each file by itself"] = how.pop("by name")
    subjects = {**published, **by_folder, **by_name}
    return {path: subjects[path] for path in sorted(paths)}, {
        rule: list(them.values()) for rule, them in how.items() if them
    }


def place_of(path, below, pictures):
    """The `Place` of a path; `below` is what is left of it without the folders that all paths share."""
    *folders, file = below.split("/")
    groups = [folder for folder in folders if is_group(folder)]
    naming = [found for folder in folders if folder not in groups and (found := naming_words(folder))]
    name = naming_words(file)
    folder = naming[0] if naming else ()
    confirmed = folder and key(name[: len(folder)]) == key(folder)  # p01/p01_anything.nii
    inside = [*map("_".join, naming[1:]), *([] if confirmed else name)]
    return Place("_".join(folder), folders[0] if folders else "", "_".join(inside), name, "/".join(groups))


def is_group(folder):
    """Whether a folder is called like a data set, a site or a group of people, and not like one of them."""
    if GROUP.fullmatch(folder):
        return True
    found = [word for word in words(folder) if not NOBODY.fullmatch(word)]
    return bool(found) and (GROUP.fullmatch("".join(found)) or all(map(GROUP.fullmatch, found)))


def starts_of(names):
    """{words: their start}: what all names share, and the first word, or label and number, that differs."""
    alike = takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False))
    shared = len(list(alike)) if len(names) > 1 else 0
    labels = {name: len(list(takewhile(belongs_to_next, name[shared:]))) for name in names}
    return {name: name[: shared + number + 1] for name, number in labels.items()}


def belongs_to_next(word):
    """Whether a word tells somebody only with the one behind it: ctrl 01, site2 anna."""
    return LABEL.fullmatch(word) or GROUP.fullmatch(word)


def key(name):
    """Words of which spelling does not count: Anna is anna, p01 is p1, and p01a and p01b may be one."""
    return tuple(re.sub(r"(?<!\d)0+(?=\d)|(?<=\d)[a-z]$", "", word.casefold()) for word in name)


def key_of(subject):
    return key(tuple(subject.split("_")))


def why_unclear(forms, places, by_folder, by_name, pictures):
    """What in the paths allows another reading, as a sentence; empty: nothing does."""
    if two := [path for path, found in forms.items() if len(found) > 1]:
        return f"The path of {listed(two)} names {' and '.join(sorted(forms[two[0]]))}."
    if nameless := [path for path in places if path not in by_folder and path not in by_name]:
        return f"Nothing in the path of {listed(nameless)} names a subject."
    groups, insides, folders = defaultdict(set), defaultdict(set), defaultdict(set)
    for path, place in places.items():
        groups[by_folder.get(path) or by_name[path]].add(place.group)
        if place.folder and place.inside:
            insides[place.folder].add(place.inside)
            folders[place.inside].add(place.folder)
    for subject, found in groups.items():
        if len(found) > 1:
            return f"{subject} is in {' and in '.join(sorted(filter(None, found)))}: one subject or several?"
    elsewhere = {key_of(name) for name in by_name.values()}
    for path in by_folder:
        place = places[path]
        if place.inside and any(key(place.name[:end]) in elsewhere for end in range(1, len(place.name) + 1)):
            return f"{path}: is it of {place.folder}, or of {'_'.join(place.name)}, who is elsewhere, too?"
    # One or two names that return in every folder, such as scan_a and scan_b, cannot be subjects: three are needed. Nor
    # can numbers that only count; and pictures of a subject may have any name.
    counts = all(inside.isdigit() for inside in folders) and len(folders) < len(set(by_folder.values()))
    if len(folders) > 2 and not counts and not pictures:
        for folder, inside in insides.items():
            if len(inside) > 1:
                return f"{folder} holds {listed(sorted(inside))}: several subjects, or several volumes of one?"
        for inside, found in folders.items():
            if len(found) > 1:
                return f"{inside} is in {listed(sorted(found))}: one subject or several?"
    for folder in sorted(set(by_folder.values())) if pictures else ():
        firsts = starts_of({places[path].name for path in by_folder if by_folder[path] == folder})
        several = ["_".join(first) for first, number in Counter(firsts.values()).items() if number > 1]
        if len(several) > 1:
            return f"{folder} holds {listed(sorted(several))}: several subjects, or several series of one?"
    if pictures and by_name:
        if 2 * len(set(by_name.values())) > len(by_name):
            return f"{listed(sorted(by_name))}: their names do not say which of them are of one subject."
        for path in by_name:
            rest = places[path].name[len(by_name[path].split("_")) :]
            if not all(word.isdigit() for word in rest):
                return f"{path}: is {'_'.join(rest)} a part of {by_name[path]}, or somebody else?"
    alike = defaultdict(set)
    for name, start in starts_of({tuple(subject.split("_")) for subject in groups}).items():
        alike[key(start)].add("_".join(name))
    for found in alike.values():
        if len(found) > 1:
            return f"{' and '.join(sorted(found)[:2])} begin alike: one subject or two?"
    flat = {"".join(key_of(subject)): subject for subject in groups}
    for whole, subject in flat.items():
        ends = {"".join(key_of(subject)[start:]) for start in range(1, subject.count("_") + 1)}
        ends |= {whole[end:] for end in range(1, len(whole)) if MADE_FROM.fullmatch(whole[:end])}
        if found := [flat[end] for end in sorted(ends & flat.keys()) if not end.isdigit()]:
            return f"{subject} and {found[0]} end alike: one subject or two?"
    return ""


def report_subjects(rules, noun="volume"):
    """Sentences such as 'Subjects by folder: p01 (2 volumes), p02 (2 volumes).'"""
    for rule, subjects in rules.items():
        numbers = Counter(subjects)
        print(f"Subjects {rule}: {listed(f'{name} ({counted(numbers[name], noun)})' for name in sorted(numbers))}.")


def listed(names):
    """Some names, and how many there are in all."""
    names = [str(name) for name in names]
    return ", ".join(names[:NAMED]) + (f", ... ({len(names)} in all)" if len(names) > NAMED else "")
