# SPDX-License-Identifier: Apache-2.0
"""Rollouts spread over workers: other processes, GPUs and machines that hold the weights too."""
