# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from system.simulator import Client, SimulatorProcess

import small_models
from hydra_model.resources import weights_folder


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
    """The default weights, or where they are not, a small model with random ones."""
    try:
        model = weights_folder()
        if not (model / "config.json").is_file():
            raise FileNotFoundError(model)
    except FileNotFoundError:
        model = tmp_path_factory.mktemp("small_model")
        # Contexts and chunks as long as the default model's.
        small_models.write_model(model, context_latents=20, chunk_latents=20)
    return {"model": model, "device": "cpu"}
