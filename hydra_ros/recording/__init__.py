# SPDX-License-Identifier: Apache-2.0
"""Bags: written as MCAP that `ros2 bag` and Foxglove open, and read from any robot."""
