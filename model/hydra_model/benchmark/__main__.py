# SPDX-License-Identifier: Apache-2.0
"""``python -m hydra_model.benchmark``: the benchmark without ROS."""

import argparse
import sys

from hydra_model.benchmark.command import HELP, add_arguments, run

parser = argparse.ArgumentParser(prog="python -m hydra_model.benchmark", description=HELP)
add_arguments(parser)
try:
    sys.exit(run(parser.parse_args()))
except ValueError as error:
    parser.error(str(error))
