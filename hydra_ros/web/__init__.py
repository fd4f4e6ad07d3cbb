# SPDX-License-Identifier: Apache-2.0
"""``hydra_web``: a page in the browser that drives the simulator, a ROS client like others."""
