# SPDX-License-Identifier: Apache-2.0
"""Reading the reference's parity cases: outputs of the released modules for seeded weights."""

import importlib.util
import json
import os
from types import ModuleType
from typing import Any

from safetensors import safe_open
from torch import Tensor

from reference import reference_folder


def load_case(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a case's tensors and its configuration."""
    with safe_open(reference_folder("parity", f"{name}.safetensors"), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["case"])


def seeding() -> ModuleType:
    """Return the reference's module that makes weights and inputs from names and a seed."""
    path = reference_folder("parity", "seeding.py")
    spec = importlib.util.spec_from_file_location("seeding", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# (test, relative error), in the order measured; the test run's summary shows them.
MEASURED: list[tuple[str, float]] = []


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Return the Euclidean length of the difference over that of ``expected``."""
    error = ((value - expected).norm() / expected.norm()).item()
    test = os.environ.get("PYTEST_CURRENT_TEST", "").split("::")[-1].removesuffix(" (call)")
    MEASURED.append((test, error))
    return error
