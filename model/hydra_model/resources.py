# SPDX-License-Identifier: Apache-2.0
"""Where the files that come with the package lie."""

from __future__ import annotations

from pathlib import Path


def weights_folder() -> Path:
    """Return the folder of the weights that come with the package.

    In an installed package it lies inside ``hydra_model``, in the source tree beside it.
    Raises FileNotFoundError, naming both places, where neither exists.
    """
    package = Path(__file__).absolute().parent  # not resolved: a symlinked install stays inside
    candidates = (package / "weights", package.parent / "weights")
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"the default weights are not installed: neither {candidates[0]} nor {candidates[1]} exists"
    )
