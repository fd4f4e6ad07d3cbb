# SPDX-License-Identifier: Apache-2.0
from hydra_ros.threads import let_idle_threads_sleep


def test_idle_threads_sleep_unless_the_user_chose_otherwise():
    environment: dict[str, str] = {}
    let_idle_threads_sleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    let_idle_threads_sleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE"}
