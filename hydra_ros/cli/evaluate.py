# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros evaluate``: measures a model on held-out worlds; needs no ROS."""

from hydra_model.evaluation.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
