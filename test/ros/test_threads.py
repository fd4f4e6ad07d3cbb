# SPDX-License-Identifier: Apache-2.0
from hydra_ros.threads import let_idle_threads_sleep


def test_idle_threads_sleep_soon_unless_the_user_says_otherwise() -> None:
    environment: dict[str, str] = {}
    let_idle_threads_sleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}
    for chosen in ("active", "passive"):
        environment = {"OMP_WAIT_POLICY": chosen}
        let_idle_threads_sleep(environment)
        assert environment == {"OMP_WAIT_POLICY": chosen}
    environment = {"GOMP_SPINCOUNT": "7"}
    let_idle_threads_sleep(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}
