# SPDX-License-Identifier: Apache-2.0
"""The surroundings of every test: a ROS domain of its own, few threads, no files left behind."""

import os
import signal
import tempfile
from pathlib import Path

# Before anything imports rclpy or torch: both read the environment once. Child processes of
# the tests inherit all of it, so that they find each other and nobody else does.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="hydra_ros_log_")
os.environ["RCUTILS_COLORIZED_OUTPUT"] = "0"
os.environ["RCUTILS_LOGGING_BUFFERED_STREAM"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a core for each
    os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nodes that tests start share the cores
for variable in ("FASTDDS_BUILTIN_TRANSPORTS", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"):
    os.environ.pop(variable, None)

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

from hydra_ros.environment import use_dds_profile  # noqa: E402

use_dds_profile()


# Files that take longest without one slow test, longest first.
LONG = [
    Path(__file__).parent / name
    for name in (
        "docs/test_running.py", "system/test_realtime.py", "model/fast/test_kernels.py",
        "model/procedural/test_fused.py", "benchmarks/test_revisit.py", "system/test_states.py",
        "system/test_observations.py", "system/test_client_waits.py", "system/test_bags.py",
        "system/test_rollouts.py", "system/test_lockstep.py",
    )
]  # fmt: skip


def pytest_collection_modifyitems(items) -> None:
    """Begin with the files that take long, so that no process is left with one at the end.

    The order within a file stays, and that of the others.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item) -> int:
        if item.path in slow:
            return 0
        return 1 + (LONG.index(item.path) if item.path in LONG else len(LONG))

    items.sort(key=place)


def pytest_sessionfinish(session) -> None:
    from parity import MEASURED

    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["measured"] = MEASURED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    from parity import MEASURED

    MEASURED.extend(getattr(node, "workeroutput", {}).get("measured", ()))


def pytest_terminal_summary(terminalreporter) -> None:
    from parity import MEASURED

    if MEASURED:
        terminalreporter.section("relative errors against the released modules (accepted: 1e-4)")
    for test, error in MEASURED:
        terminalreporter.write_line(f"{error:.1e}  {test}")


def pytest_unconfigure() -> None:
    import shutil

    shutil.rmtree(os.environ["ROS_LOG_DIR"], ignore_errors=True)
