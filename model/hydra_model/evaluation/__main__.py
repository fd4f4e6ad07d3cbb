# SPDX-License-Identifier: Apache-2.0
"""``python -m hydra_model.evaluation``: the evaluation where there is no ROS."""

import argparse
import sys

from hydra_model.evaluation import command


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hydra_model.evaluation",
        description=command.HELP,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
