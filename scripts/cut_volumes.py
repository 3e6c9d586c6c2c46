"""Cut a folder of volumes (NIfTI, Analyze) into the PNG slices of a published layout, split by subject."""

import sys

from gan_utils import project_path
from scripts.command_line import make_parser


def main():
    parser = make_parser("scripts.cut_volumes", __doc__, without=["profile", "recipe", "data", "settings"])
    parser.add_argument("folder", help="where the volumes are, in folders of any depth")
    parser.add_argument("--to", default="data", metavar="FOLDER", help="where the slices go; default: data")
    arguments = parser.parse_args()

    from prepare.volumes import cut_folder  # here, so that --help answers at once

    try:
        failures = cut_folder(project_path(arguments.folder), arguments.experiment, project_path(arguments.to))
    except (ValueError, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot cut slices: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command continues with the volume it was at.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
