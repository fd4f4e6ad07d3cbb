# SPDX-License-Identifier: Apache-2.0
"""The ``hydra-ros`` command: one file a subcommand."""
