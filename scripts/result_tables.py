"""Fill the tables of the front page and the showcase from the runs that the showcase holds.

    python -m scripts.result_tables

A table is filled where a comment above it names the run of each column, and "real" for real images in the place of
the generated ones before it. Its rows are those of ROWS.
"""

import re

from gan_utils import PROJECT_FOLDER, duration, read_json
from gan_utils.run_folder import read_history

SHOWCASE = PROJECT_FOLDER / "epoch_images" / "showcase"
PAGES_WITH_TABLES = (PROJECT_FOLDER / "README.md", SHOWCASE / "README.md")
PUBLISHED_IMAGES = {"brain": 50 * 9664, "knee": 35 * 18680}  # epochs times training slices
TABLE = re.compile(r"(<!-- runs: (.+) -->\n\n)((?:\|.*\n)+)")


def metric(name, digits):
    return lambda results: [f"{results[each]:.{digits}f}" for each in (name, f"{name}_real")]


def anatomy(digits):
    """A distance of anatomy: the one of these measures that the experiment has."""

    def write(results):
        (name,) = (name for name in digits if f"{name}_generated" in results["anatomy"])
        return [f"{results['anatomy'][f'{name}_{each}']:.{digits[name]}f}" for each in ("generated", "training")]

    return write


def ssim(results):
    summary = next(iter(results["ssim"])).split("_")[0]  # the published one comes first
    return [f"{results['ssim'][f'{summary}_{each}']:.3f}" for each in ("generated", "held-out_subjects")]


def images_seen(results):
    return [f"{results['images_seen']:,}", ""]


def share_of_published(results):
    share = results["images_seen"] / PUBLISHED_IMAGES[results["settings"]["experiment"]]
    return [f"{results['images_seen']:,}, {share:.0%}".replace("%", " %"), ""]


def processor_minutes(results):
    return [f"{results['processor_seconds'] / 60:.0f} min", ""]


def times(results):
    return [f"{duration(results['seconds'])}; {results['processor_seconds']:.0f} s", ""]


ROWS = {  # label: results of a run -> what to write for generated and for real images
    "training images seen": images_seen,
    "training images seen, share of the published": share_of_published,
    "CPU time": processor_minutes,
    "training time; processor time of both cores": times,
    "sliced Wasserstein distance: texture": metric("swd", 1),
    "diversity ratio": metric("diversity_ratio", 2),
    "high-frequency ratio: lattice, blur": metric("high_frequency_ratio", 2),
    "nearest-neighbour ratio: copies": metric("nearest_ratio", 2),
    "coverage": metric("coverage", 2),
    "Fréchet distance of trained features, over that of real images": metric("frechet_ratio", 2),
    "Fréchet distance, random features": metric("random_frechet_distance", 1),
    "accuracy of the two-sample test": metric("two_sample_accuracy", 2),
    "distance of symmetry": anatomy({"symmetry": 2}),
    "distance of symmetry; of cartilage, mm": anatomy({"symmetry": 2, "cartilage_length": 0}),
    "distance of brain area; of bone area, mm²": anatomy({"brain_area": 0, "bone_area": 0}),
    "SSIM, as published (maximum; mean)": ssim,
}


def main():
    for page in PAGES_WITH_TABLES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text):
    """The text of a page with its tables filled."""
    return TABLE.sub(fill, text)


def fill(found):
    comment, names, table = found.groups()
    header, line, *rows = table.splitlines()
    labels = [row.split("|")[1].strip() for row in rows]
    columns = []
    for name in names.split():
        if name != "real":
            results = read_results(SHOWCASE / name)
        columns.append([ROWS[label](results)[name == "real"] for label in labels])
    rows = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in zip(labels, *columns, strict=True)]
    return comment + "\n".join([header, line, *rows]) + "\n"


def read_results(folder):
    """What is known of a run: its metrics and notes, and the processor time of its history."""
    results = read_json(folder / "run.json") | read_json(folder / "results.json")
    return results | {"processor_seconds": read_history(folder)["processor_seconds"][-1]}


if __name__ == "__main__":
    main()
