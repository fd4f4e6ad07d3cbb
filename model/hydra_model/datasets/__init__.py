# SPDX-License-Identifier: Apache-2.0
"""Data sets of clips with cameras, and what is prepared of them once for training."""
