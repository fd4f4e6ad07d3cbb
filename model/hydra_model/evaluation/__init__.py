# SPDX-License-Identifier: Apache-2.0
"""How good predicted videos are: measures, baselines and reports over held-out worlds."""
