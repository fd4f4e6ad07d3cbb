# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from system.simulator import Client, SimulatorProcess

import small_models


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Show with a failure what the simulators logged, and what they last said of themselves."""
    report = yield
    if report.failed:
        for process in SimulatorProcess.running:
            lines = "\n".join(process.log[-60:])
            report.sections.append((f"log of the simulator in {process.namespace}", lines))
        for client in Client.running:
            said = "\n".join(f"{key}: {value}" for key, value in client.diagnostics.items())
            report.sections.append((f"diagnostics from {client.namespace}", said))
    return report


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


@pytest.fixture(scope="module")
def listener():
    """A node that keeps what arrives on topics of any namespace."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()

    def listen(kind: type, topic: str) -> list:
        received: list = []
        node.create_subscription(kind, topic, received.append, 100)
        return received

    yield SimpleNamespace(listen=listen, node=node)
    rclpy.shutdown(context=context)
    thread.join(10)
