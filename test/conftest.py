# SPDX-License-Identifier: Apache-2.0
"""The surroundings of every test: a ROS domain of its own, few threads, no files left behind."""

import os
import tempfile

# Before anything imports rclpy or torch: both read the environment once. Child processes of
# the tests inherit all of it, so that they find each other and nobody else does.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="hydra_ros_log_")
os.environ["RCUTILS_COLORIZED_OUTPUT"] = "0"
os.environ["RCUTILS_LOGGING_BUFFERED_STREAM"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # nodes that tests start share the cores
for variable in ("FASTDDS_BUILTIN_TRANSPORTS", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"):
    os.environ.pop(variable, None)

from hydra_ros.environment import use_dds_profile  # noqa: E402

use_dds_profile()


def pytest_terminal_summary(terminalreporter) -> None:
    from parity import MEASURED

    if MEASURED:
        terminalreporter.section("relative errors against the released modules (accepted: 1e-4)")
    for test, error in MEASURED:
        terminalreporter.write_line(f"{error:.1e}  {test}")


def pytest_unconfigure() -> None:
    import shutil

    shutil.rmtree(os.environ["ROS_LOG_DIR"], ignore_errors=True)
