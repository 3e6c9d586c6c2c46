"""Cut a folder of volumes (NIfTI, Analyze, MGZ) or pictures into the PNG slices of a published layout, by subject."""

import sys

from gan_utils import project_path
from prepare.subjects import CHOICES
from scripts.command_line import make_parser


def main():
    parser = make_parser("scripts.cut_volumes", __doc__, without=["profile", "recipe", "data", "settings"])
    parser.add_argument("folder", help="where the volumes are, in folders of any depth")
    parser.add_argument("--to", default="data", metavar="FOLDER", help="where the slices go; default: data")
    parser.add_argument("--subjects", metavar="|".join(CHOICES), help="what tells subjects where paths leave it open")
    parser.add_argument("--suffix", metavar="FLAIR", help="the contrast to cut, or what names of volumes end in")
    arguments = parser.parse_args()

    from prepare.volumes import cut_folder  # here, so that --help answers at once

    try:
        source, to = project_path(arguments.folder), project_path(arguments.to)
        failures = cut_folder(source, arguments.experiment, to, arguments.subjects, arguments.suffix)
    except (ValueError, OSError) as error:  # DataError is a ValueError
        sys.exit(f"\nCannot cut slices: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped; the same command continues with the volume it was at.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
