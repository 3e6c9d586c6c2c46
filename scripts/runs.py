"""List all runs, archived ones too, with what their settings change and how they came out; or put two side by side."""

import csv
import sys

from gan_utils import DataError, newest, project_path, read_json, short_path
from scripts import import_tensorflow

import_tensorflow()

from gan_utils.gan import LOSSES
from gan_utils.metrics import METRICS
from gan_utils.pair import code_of
from gan_utils.settings import choose_settings
from scripts.command_line import changes_of, make_parser

parser = make_parser("scripts.runs", __doc__, without=["experiment", "profile", "recipe", "data"])
parser.add_argument("runs", nargs="*", metavar="RUN", help="two names from the list, to be put side by side")


def main(arguments):
    if len(arguments.runs) not in (0, 2):
        sys.exit("Name two runs to put side by side, or none to list them all.")
    try:
        output = project_path(output_of(arguments))
        listed = sorted(path.parent for path in output.glob("*/run.json"))
        folders = [output / name for name in arguments.runs] or listed
        rows = [describe(folder) for folder in folders if not folder.name.startswith("ablation-")]
        if not rows:
            sys.exit(f"No runs in {short_path(output)} yet: make run")
        print_table(rows)
        print("~: measured while training, on fewer images than in notebook 4")
        if arguments.runs:
            print(f"From the same latents, the first run on top: {short_path(put_side_by_side(*folders))}")
    except (ValueError, OSError) as error:
        sys.exit(f"Cannot show runs: {error}")


def output_of(arguments):
    return choose_settings(**{name: value for name, value in changes_of(arguments).items() if name == "output"}).output


def describe(folder):
    """{column: text} of a run."""
    if not (folder / "run.json").exists():
        raise DataError(f"There is no run in {short_path(folder)}. `make runs` lists those that are there.")
    notes = read_json(folder / "run.json")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    done = notes.get("epochs_done", "?")
    return {
        "run": folder.name,
        "epochs": f"{done} of {notes['settings'].get('epochs', '?')}",
        "changed": changes_to_preset(notes),
        "MB": f"{size / 1e6:.0f}",
        **metrics_of(folder),
    }


def changes_to_preset(notes):
    """How a run differs from the experiment, profile and recipe that it is named after."""
    settings = notes["settings"]
    preset = vars(choose_settings(*(settings.get(name) for name in ("experiment", "profile", "recipe"))))
    changed = [f"{name}={value}" for name, value in settings.items() if name != "output" and preset.get(name) != value]
    for number, loss in enumerate(("generator_loss", "discriminator_loss")):
        ours = [code_of(pair[number]) for pair in LOSSES.values()]
        if notes.get("model", {}).get(loss, ours[0]) not in ours:
            changed.append(f"{loss} of its own")
    return ", ".join(changed) or "nothing"


def metrics_of(folder):
    """{metric: text} of notebook 4, or else of the last epoch that was evaluated, with a ~ before it."""
    found = dict.fromkeys(METRICS, "")
    if (history := newest(folder / "history.csv")).exists():
        with open(history, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found |= {name: f"~{float(row[name]):.3g}" for name in METRICS if row.get(name)}
    if (folder / "results.json").exists():
        results = read_json(folder / "results.json")
        found |= {name: f"{value:.3g}" for name in METRICS if isinstance(value := results.get(name), int | float)}
    return found


def print_table(rows):
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for row in [dict(zip(widths, widths, strict=True)), *rows]:
        print("  ".join(f"{row[name]:<{width}}" for name, width in widths.items()).rstrip())


def put_side_by_side(first, second):
    """Write eight images of each of two runs, from the same latents; returns the picture's path."""
    import numpy as np

    from gan_utils import atomic_write
    from gan_utils.networks import generate_images, load_network
    from gan_utils.plots import show_images
    from gan_utils.run_folder import what_changed

    changed = what_changed(*(read_json(folder / "run.json") for folder in (first, second)))
    print("Between them:", "; ".join(changed) or "epochs at most")
    generators = [load_network(folder / "generator.keras") for folder in (first, second)]
    lengths = [generator.input_shape[-1] for generator in generators]
    latents = np.random.default_rng(1).standard_normal((8, max(lengths)), dtype=np.float32)
    images = [generate_images(each, latents[:, :length]) for each, length in zip(generators, lengths, strict=True)]
    place = first.parent / f"{first.name}_beside_{second.name}.png"
    figure = show_images([image for row in images for image in row], columns=8)
    figure.suptitle(f"{first.name}, below {second.name}", fontsize=9)
    with atomic_write(place) as unfinished:
        figure.savefig(unfinished, facecolor="white", dpi=150)
    return place


if __name__ == "__main__":
    main(parser.parse_args())
