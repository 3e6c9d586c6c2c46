"""Measure everything, or what is named, and write results.json, results.md and growth.png beside this file.

python -m benchmarks [step epoch recipe ssim loading memory start growth]        (`make bench` installs the peers first)

Without names all of them: half an hour on two cores. make bench BENCH="step ssim" does the same.
"""

import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__" and {"-h", "--help"} & {*sys.argv}:
    print(__doc__)  # before TensorFlow is imported, so that it comes at once
    sys.exit()

from benchmarks import growth, large_data, loading, ssim_pairs
from benchmarks.side_by_side import compare
from benchmarks.training_steps import all_contestants
from gan_utils import read_json, write_json
from gan_utils.fast import usable_cores
from gan_utils.run_folder import commit

HERE = Path(__file__).parent
PACKAGES = "tensorflow", "keras", "torch", "numpy", "scikit-image", "pillow"


def step(folder):
    """One training step, batches of 16, equal networks and order of updates."""
    cases = [
        (experiment, size, precision)
        for experiment in ("brain", "knee")
        for size, precision in ((64, "float32"), (128, "float32"), (128, "mixed_bfloat16"))
    ]
    results = {
        f"{experiment}, {size} px, {precision}": compare(
            all_contestants(experiment=experiment, image_size=size, precision=precision)
        )
        for experiment, size, precision in cases
    }
    for case, rows in results.items():
        if len({row["parameters"] for row in rows.values()}) > 1:
            raise RuntimeError(f"{case}: the networks have different numbers of parameters")
    return results


def epoch(folder):
    """Five epochs of brains, quick; what comes once a run stands by itself."""
    contestants = {
        "fit() with PNG files and all callbacks": (
            "whole_epochs:with_everything",
            {"recipe": "baseline", "folder": folder},
        ),
        "bare steps on one batch": ("whole_epochs:bare_steps", {"recipe": "baseline"}),
        "loading and getting ready, once a run": (
            "whole_epochs:getting_ready",
            {"recipe": "baseline", "folder": folder},
        ),
    }
    return {"brain, 64 px": compare(contestants, rounds=4)}


def recipe(folder):
    """One training step of both recipes at the published size, in the precision chosen from the device."""
    choice = {"experiment": "brain", "image_size": 256}
    contestants = {
        name: ("training_steps:by_gan_utils", {**choice, **changes})
        for name, changes in {
            "improved": {"recipe": "improved"},
            "improved, float32": {"recipe": "improved", "precision": "float32"},
            "baseline": {},
            "baseline, float32": {"precision": "float32"},
        }.items()
    }
    return {"brain, 256 px": compare(contestants, rounds=3)}


def ssim(folder):
    """SSIM of all pairs of 16 images and many others, 256x256."""
    rows = compare(ssim_pairs.CONTESTANTS, rounds=3)
    values = [row.pop("ssim") for row in rows.values()]
    for row, others in zip(rows.values(), values, strict=True):
        row["largest_difference"] = max(abs(one - other) for one, other in zip(values[0], others, strict=True))
        if row["largest_difference"] > 1e-5:
            raise RuntimeError(f"SSIM differs by {row['largest_difference']:.1e} between contestants")
    return {"256 px": rows}


def load(folder):
    """Loading 9,664 PNG files of 256x256."""
    pictures = f"{folder}/pictures"
    loading.make_pictures(pictures)
    contestants = {
        "gan_utils": ("loading:by_gan_utils", {"folder": pictures}),
        "PIL in a loop, float64": ("loading:as_published", {"folder": pictures}),
        "nothing (imports alone)": ("loading:nothing", {}),
    }
    return {"9,664 PNG": compare(contestants, rounds=3)}


def memory(folder):
    """A run on 20,064 slices of 256x256: loading, all callbacks, ten steps of the improved recipe."""
    data = large_data.make_subjects(folder)
    contestants = {"images in memory": ("large_data:training", {"data": data, "folder": folder})}
    return {"20,064 PNG": compare(contestants, rounds=1, warm_ups=0)}


def start(folder):
    """What comes before training."""
    phantoms = {
        "60 brains at 128 px, made": ("starting:making_phantoms", {"folder": f"{folder}/made"}),
        "60 brains at 128 px, loaded": ("starting:loading_phantoms", {"folder": folder}),
    }
    imports = {
        f"import {package}": ("starting:importing", {"package": package}) for package in ("gan_utils", "tensorflow")
    }
    return {"digital phantoms": compare(phantoms, rounds=3), "imports": compare(imports)}


def grow(folder):
    """Images per second and memory over image size, batch size and number of images."""
    measured = {
        what: {str(value): compare(contestants, rounds=3) for value, contestants in by_value.items()}
        for what, by_value in growth.groups().items()
    }
    growth.plot_growth(measured, HERE / "growth.png")
    return {f"{what}: {value}": rows for what, by_value in measured.items() for value, rows in by_value.items()}


BENCHMARKS = {
    "step": step,
    "epoch": epoch,
    "recipe": recipe,
    "ssim": ssim,
    "loading": load,
    "memory": memory,
    "start": start,
    "growth": grow,
}


def write_table(results, path):
    """results.md: a table for each benchmark, with how many times faster its first contestant is than each other."""
    lines = [
        "# Results",
        "",
        f"`make bench` on {results['machine']}, {results['date']}, commit {results['commit']}; "
        + ", ".join(f"{name} {number}" for name, number in results["versions"].items())
        + ".",
        "Medians over rounds in which the contestants took turns; memory is the peak of the whole process.",
    ]
    for name, cases in results["results"].items():
        lines += ["", f"## {name}: {BENCHMARKS[name].__doc__}", ""]
        lines += ["| case | contestant | median, s | a second | the first is faster | memory, MB |"]
        lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
        for case, rows in cases.items():
            first = next(iter(rows.values()))
            for contestant, row in rows.items():
                times = f"{per_second(first) / per_second(row):.2f} x" if unit(first) == unit(row) else "not compared"
                lines.append(
                    f"| {case} | {contestant} | {row['median']:.3f} | {per_second(row):,.1f} {unit(row)} | "
                    f"{'is the first' if row is first else times} | {row['peak_megabytes']:,} |"
                )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def unit(row):
    """What a contestant works through: images, pairs or subjects; else it is just done so many times."""
    return next((name for name in ("images", "pairs", "subjects") if name in row), "times")


def per_second(row):
    return row.get(unit(row), 1) / max(row["median"], 1e-9)


def processor():
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'an unnamed processor'}, {usable_cores()}"


def main(names):
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    path = HERE / "results.json"
    known = read_json(path)["results"] if path.exists() else {}
    for number, name in enumerate(names or BENCHMARKS, start=1):
        print(f"{number} of {len(names or BENCHMARKS)}: {name} ...", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            known[name] = BENCHMARKS[name](folder)
        results = {
            "machine": processor(),
            "date": date.today().isoformat(),
            "commit": commit(),
            "versions": {package: version(package) for package in PACKAGES},
            "results": {name: known[name] for name in BENCHMARKS if name in known},
        }
        write_json(path, results)
        write_table(results, HERE / "results.md")
    print((HERE / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
