# SPDX-License-Identifier: Apache-2.0
"""HyDRA: a camera-controlled video diffusion transformer with hybrid memory, without ROS."""
