# SPDX-License-Identifier: Apache-2.0
"""The standard control services over DDS, one after the other, with their result codes."""

import importlib
import importlib.util
import math
from contextlib import nullcontext

import numpy as np
import pytest
import standard_interfaces
from rclpy.qos import QoSProfile
from system.simulator import pose_message, wait_until

import small_models
from hydra_ros.action_client import ActionClient
from hydra_ros.conversions import pose_from_message, pose_to_message
from hydra_ros.node_spinner import NodeSpinner
from hydra_ros.standard_interfaces import snake_case

NAMESPACE = "/standard"
UNSUPPORTED, OK, NOT_FOUND, INCORRECT_STATE, FAILED = range(5)
STOPPED, PLAYING, PAUSED, QUITTING, NO_WORLD, LOADING_WORLD = range(6)


@pytest.fixture(scope="module")
def interfaces(request):
    """The package, built where it is not installed."""
    if importlib.util.find_spec("simulation_interfaces"):
        found = nullcontext()
    elif missing := standard_interfaces.missing_tools():
        pytest.skip(f"simulation_interfaces is not installed, to build it lacks {missing}")
    else:
        name = f"simulation_interfaces-{standard_interfaces.key()}"
        folder = request.config.cache.mkdir(name)
        found = standard_interfaces.installed(standard_interfaces.build(folder))
    with found:
        yield


class Bench:
    """A test bench that knows the simulator by the standard alone."""

    def __init__(self, process) -> None:
        self.process = process
        self.spinner = NodeSpinner("bench")
        self._clients = {}

    def call(self, kind: str, **fields):
        service = getattr(importlib.import_module("simulation_interfaces.srv"), kind)
        if kind not in self._clients:
            name = f"{NAMESPACE}/hydra_simulator/{snake_case(kind)}"
            self._clients[kind] = self.spinner.node.create_client(service, name)
            assert self._clients[kind].wait_for_service(30), name
        answer = self._clients[kind].call_async(service.Request(**fields))
        wait_until(answer.done, f"answer of {kind}")
        return answer.result()

    def code(self, kind: str, **fields) -> int:
        return self.call(kind, **fields).result.result

    @property
    def state(self) -> int:
        return self.call("GetSimulationState").state.state

    def set_state(self, state: int) -> int:
        kind = importlib.import_module("simulation_interfaces.msg").SimulationState
        return self.code("SetSimulationState", state=kind(state=state))

    def message(self, kind: str, **fields):
        return getattr(importlib.import_module("simulation_interfaces.msg"), kind)(**fields)

    def pose(self) -> np.ndarray:
        return pose_from_message(self.call("GetEntityState", entity="camera").state.pose)

    def place(self, pose: np.ndarray, entity: str = "camera", frame: str = "") -> int:
        state = self.message("EntityState", pose=pose_to_message(pose))
        state.header.frame_id = frame
        return self.code("SetEntityState", entity=entity, state=state)

    def load(self, uri: str = "", resource_string: str = "") -> int:
        if hasattr(importlib.import_module("simulation_interfaces.srv").LoadWorld.Request(), "uri"):
            return self.code("LoadWorld", uri=uri, resource_string=resource_string)
        resource = self.message("Resource", uri=uri, resource_string=resource_string)
        return self.code("LoadWorld", world_resource=resource)


@pytest.fixture(scope="module")
def started(interfaces, start_simulator, tmp_path_factory):
    model = tmp_path_factory.mktemp("tiny")
    small_models.write_model(model)
    clips = tmp_path_factory.mktemp("clips")
    small_models.write_example(clips, "square")
    (clips / "broken.mp4").write_bytes(b"no video")
    (clips / "cambroken.json").write_text("{}")
    parameters = {
        "model": model, "playback_speed": 0.0, "seed": 5, "clips_folder": clips,
        "lockstep_timeout": 0.05, "states_folder": tmp_path_factory.mktemp("states"),
    }  # fmt: skip
    with start_simulator(NAMESPACE, **parameters) as started:
        started.bench = Bench(started.process)
        yield started
        started.bench.spinner.close()


@pytest.fixture
def bench(started):
    """The bench, in a new world that plays."""
    bench = started.bench
    wait_until(lambda: bench.state not in (LOADING_WORLD, NO_WORLD), "a world")
    bench.set_state(PLAYING)
    assert bench.code("ResetSimulation") == OK
    started.client.forget()
    bench.images = started.client.images
    bench.driver = started.client
    return bench


@pytest.mark.slow
@pytest.mark.timeout(900)  # it waits for the package to be built
def test_the_features_are_those_that_are_served(bench):
    features = bench.call("GetSimulatorFeatures").features
    kind = type(features)
    offered = set(features.features)
    assert {
        kind.SIMULATION_RESET, kind.SIMULATION_RESET_STATE, kind.SIMULATION_STATE_GETTING,
        kind.SIMULATION_STATE_SETTING, kind.SIMULATION_STATE_PAUSE, kind.STEP_SIMULATION_SINGLE,
        kind.STEP_SIMULATION_MULTIPLE, kind.STEP_SIMULATION_ACTION, kind.ENTITY_STATE_GETTING,
        kind.ENTITY_STATE_SETTING, kind.WORLD_LOADING, kind.AVAILABLE_WORLDS,
    } <= offered  # fmt: skip
    assert not offered & {
        kind.SPAWNING, kind.DELETING, kind.SIMULATION_RESET_TIME, kind.SIMULATION_RESET_SPAWNED,
        kind.WORLD_UNLOADING, kind.WORLD_RESOURCE_STRING,
    }  # fmt: skip
    assert "one frame" in features.custom_info


def test_the_state_goes_from_playing_to_paused_to_stopped_and_back(bench):
    assert bench.state == PLAYING
    for state in (PAUSED, PLAYING, STOPPED, PAUSED, STOPPED, PLAYING):
        assert bench.set_state(state) == OK
        assert bench.state == state


def test_the_same_state_twice_is_101_and_what_cannot_be_set_103(bench):
    assert bench.set_state(PLAYING) == 101
    for state in (NO_WORLD, LOADING_WORLD, 77):
        assert bench.set_state(state) == 103
    assert bench.set_state(PAUSED) == OK
    assert bench.set_state(PAUSED) == 101


def test_stepping_needs_a_paused_simulation(bench):
    assert bench.code("StepSimulation", steps=1) == FAILED
    assert bench.set_state(STOPPED) == OK
    assert bench.code("StepSimulation", steps=1) == FAILED
    assert not bench.images


def test_a_step_is_one_frame_in_which_the_camera_stays(bench):
    assert bench.set_state(PAUSED) == OK
    before = bench.pose()
    assert bench.code("StepSimulation") == OK  # one, by default
    wait_until(lambda: len(bench.images) == 1, "a frame")
    assert bench.code("StepSimulation", steps=12) == OK
    bench.driver.wait_frames(13)
    np.testing.assert_allclose(bench.pose(), before, atol=1e-9)
    assert bench.state == PAUSED
    assert bench.code("StepSimulation", steps=2**40) == FAILED


def test_steps_follow_what_was_commanded_while_paused(bench):
    assert bench.set_state(PAUSED) == OK
    poses = np.tile(bench.pose(), (3, 1, 1))
    poses[:, 2, 3] += [0.1, 0.2, 0.3]
    for pose in poses:
        bench.driver.pose_cmd.publish(pose_message(pose))
    wait_until(lambda: bench.driver.diagnostics.get("frames_commanded") == "3", "the commands")
    for pose in poses:
        assert bench.code("StepSimulation", steps=1) == OK
        np.testing.assert_allclose(bench.pose(), pose, atol=1e-9)


def test_steps_as_an_action_tell_of_every_step(bench):
    kind = importlib.import_module("simulation_interfaces.action").SimulateSteps
    action = ActionClient(
        bench.spinner.node, kind, f"{NAMESPACE}/hydra_simulator/simulate_steps",
        feedback_sub_qos_profile=QoSProfile(depth=100),
    )  # fmt: skip
    assert action.wait_for_server(30)

    def simulate(steps: int):
        told = []
        sent = action.send_goal_async(
            kind.Goal(steps=steps), feedback_callback=lambda m: told.append(m.feedback)
        )
        wait_until(sent.done, "an accepted goal")
        answer = sent.result().get_result_async()
        wait_until(answer.done, "a result")
        return answer.result().result.result.result, told

    code, _ = simulate(3)
    assert code == FAILED  # playing
    assert bench.set_state(PAUSED) == OK
    code, told = simulate(12)
    assert code == OK
    wait_until(lambda: len(told) == 12, "feedback of every step")
    assert [feedback.completed_steps for feedback in told] == list(range(1, 13))
    assert [feedback.remaining_steps for feedback in told] == list(range(11, -1, -1))
    assert bench.state == PAUSED
    action.destroy()


def test_a_reset_goes_back_to_the_beginning(bench):
    bench.set_state(PAUSED)
    begin = bench.pose()

    def frame_of_next_step() -> bytes:
        bench.images.clear()
        assert bench.code("StepSimulation", steps=1) == OK
        wait_until(lambda: bench.images, "a frame")
        return bench.images[0].data.tobytes()

    first = frame_of_next_step()
    for scope in (0, 255, 2, 3):
        moved = begin.copy()
        moved[2, 3] += 0.5
        assert bench.place(moved) == OK
        assert bench.code("StepSimulation", steps=5) == OK
        assert bench.code("ResetSimulation", scope=scope) == OK
        np.testing.assert_allclose(bench.pose(), begin, atol=1e-9)
        assert bench.state == PAUSED
        assert frame_of_next_step() == first


@pytest.mark.parametrize("scope", [1, 4, 5, 6, 8, 64])
def test_scopes_that_mean_nothing_here_are_unsupported(bench, scope):
    assert bench.code("ResetSimulation", scope=scope) == UNSUPPORTED


def test_the_entity_is_the_camera(bench):
    filters, category, tags = (
        lambda **fields: bench.message("EntityFilters", **fields),
        lambda number: [bench.message("EntityCategory", category=number)],
        lambda *names, mode=0: bench.message("TagsFilter", tags=list(names), filter_mode=mode),
    )

    def found(**fields) -> list[str]:
        answer = bench.call("GetEntities", filters=filters(**fields))
        assert answer.result.result == OK
        return list(answer.entities)

    assert found() == found(filter="^cam.*") == found(categories=category(1)) == ["camera"]
    assert found(tags=tags("camera", "lidar")) == ["camera"]
    assert found(tags=tags("camera", "lidar", mode=1)) == found(filter="robot") == []
    assert found(categories=category(2)) == []
    assert bench.code("GetEntities", filters=filters(filter="(")) == FAILED
    bounds = bench.message("Bounds", type=3)
    assert bench.code("GetEntities", filters=filters(bounds=bounds)) == UNSUPPORTED
    info = bench.call("GetEntityInfo", entity="camera")
    assert info.result.result == OK and list(info.info.tags) == ["camera"]
    assert bench.code("GetEntityInfo", entity="table") == NOT_FOUND
    states = bench.call("GetEntitiesStates")
    assert list(states.entities) == ["camera"] and len(states.states) == 1


def test_the_camera_is_where_it_was_set(bench):
    bench.set_state(PAUSED)
    pose = bench.pose()
    pose[2, 3] += 0.25
    assert bench.place(pose) == bench.place(pose, frame="map") == OK
    np.testing.assert_allclose(bench.pose(), pose, atol=1e-9)
    assert bench.code("StepSimulation", steps=2) == OK
    np.testing.assert_allclose(bench.pose(), pose, atol=1e-9)
    state = bench.call("GetEntityState", entity="camera").state
    assert state.header.frame_id == "map"


def test_states_that_cannot_be_set(bench):
    assert bench.place(np.eye(4), entity="table") == NOT_FOUND
    assert bench.code("GetEntityState", entity="table") == NOT_FOUND
    assert bench.place(np.eye(4), frame="moon") == 101
    state = bench.message("EntityState", pose=pose_to_message(np.eye(4)))
    state.pose.orientation.w = 0.0
    assert bench.code("SetEntityState", entity="camera", state=state) == 101
    state.pose.orientation.w, state.pose.position.x = 1.0, math.nan
    assert bench.code("SetEntityState", entity="camera", state=state) == 101
    state.pose.position.x, state.twist.linear.x = 0.0, 1.0
    assert bench.code("SetEntityState", entity="camera", state=state) == FAILED


def test_worlds_are_listed_and_loaded_and_wait_stopped(bench):
    answer = bench.call("GetAvailableWorlds")
    assert answer.result.result == OK
    assert {"procedural", "square"} <= {world.world_resource.uri for world in answer.worlds}
    only = bench.message("TagsFilter", tags=["clip"])
    clips = bench.call("GetAvailableWorlds", filter=only).worlds
    assert sorted(world.name for world in clips) == ["broken", "square"]
    assert bench.code("GetAvailableWorlds", additional_sources=["/"]) == UNSUPPORTED
    for uri, name in (("procedural:7", "procedural world 7 (look_away)"), ("square", "'square'")):
        assert bench.load(uri) == OK
        assert bench.state == STOPPED
        current = bench.call("GetCurrentWorld").world
        assert name in current.description
        assert current.name == current.world_resource.uri == uri
        assert not bench.images
        assert bench.set_state(PLAYING) == OK


def test_worlds_that_cannot_be_loaded_change_nothing(bench):
    before = bench.call("GetCurrentWorld").world.name
    assert bench.load() == bench.load("atlantis") == 102
    assert bench.load("broken") == 103
    assert bench.load(resource_string="<sdf/>") == UNSUPPORTED
    assert bench.call("GetCurrentWorld").world.name == before
    assert bench.state == PLAYING


def test_quitting_ends_the_node(bench):
    assert bench.set_state(QUITTING) == OK
    wait_until(lambda: not bench.process.alive, "the end of the node", 30)
