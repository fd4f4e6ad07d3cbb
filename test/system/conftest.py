# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from system.simulator import Client, SimulatorProcess

import small_models


@pytest.fixture(scope="session")
def start_simulator(model_parameters):
    """Start the node with some parameters, and a client of it, as a context manager."""

    @contextmanager
    def start(namespace: str, **parameters: Any) -> Iterator[SimpleNamespace]:
        process = SimulatorProcess({**model_parameters, **parameters}, namespace)
        client = Client(namespace)
        try:
            client.wait_connected()
            yield SimpleNamespace(process=process, client=client)
        except BaseException:
            print("\n".join(process.log))
            raise
        finally:
            client.close()
            process.end()

    return start


@pytest.fixture(scope="session")
def model_parameters(tmp_path_factory) -> dict[str, Any]:
    """A small model with random weights, with contexts and chunks as long as the default model's.

    These tests are about the node; what is documented is run with the default weights
    (test/docs/test_running.py).
    """
    model = tmp_path_factory.mktemp("small_model")
    small_models.write_model(model, context_latents=20, chunk_latents=20)
    return {"model": model, "device": "cpu"}
