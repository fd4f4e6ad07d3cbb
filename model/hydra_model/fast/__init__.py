# SPDX-License-Identifier: Apache-2.0
"""The released form of the transformer at the speed of a GPU, beside the readable one."""
