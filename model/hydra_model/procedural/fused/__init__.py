# SPDX-License-Identifier: Apache-2.0
"""The whole renderer in one Triton kernel; its parts have the names of the eager modules."""
