# SPDX-License-Identifier: Apache-2.0
"""Driving the camera by hand: keyboard and joystick -> velocities or poses."""
