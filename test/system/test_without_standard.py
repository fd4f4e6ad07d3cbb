# SPDX-License-Identifier: Apache-2.0
"""The node where ``simulation_interfaces`` is not installed."""

import importlib.util

import pytest
from system.simulator import wait_until


@pytest.mark.skipif(
    importlib.util.find_spec("simulation_interfaces") is not None,
    reason="simulation_interfaces is installed",
)
def test_the_node_says_so_once_and_goes_on(start_simulator):
    with start_simulator("/without_standard", autostart=False) as started:
        words = "simulation_interfaces is not installed"
        wait_until(lambda: started.process.logged(words), "a word about it")
        assert started.client.state == "unconfigured"
        assert len(started.process.logged(words)) == 1
