"""Cut a folder of volumes (NIfTI, Analyze) into the PNG slices of a published layout, split by subject.

python -m scripts.cut_volumes FOLDER [--experiment brain|knee] [--to data]
"""

import argparse
import os
import sys


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.cut_volumes", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where the volumes are, in folders of any depth")
    parser.add_argument("--experiment", default=os.environ.get("GAN_EXPERIMENT") or "brain", help="brain or knee")
    parser.add_argument("--to", default="data", help="where the slices go; default: data")
    arguments = parser.parse_args()

    from gan_utils import project_path  # here, so that --help answers at once
    from prepare.volumes import cut_folder

    try:
        failures = cut_folder(project_path(arguments.folder), arguments.experiment, project_path(arguments.to))
    except (ValueError, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot cut slices: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command continues with the volume it was at.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
