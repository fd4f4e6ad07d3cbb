# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from hydra_ros.commands import CommandError, PathCommand, PoseCommand, VelocityCommand
from hydra_ros.planners import LockstepPlanner, PlannerSettings, RealtimePlanner

PERIOD = 1 / 15
ORIGIN = np.eye(4)


def at(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def go(x: float, stamp: float = 0.0, relative: bool = False) -> PoseCommand:
    return PoseCommand(at(x), relative, round(stamp * 1e9))


def follow(*xs: float, times: list[float] | None = None, relative: bool = False) -> PathCommand:
    poses = np.stack([at(x) for x in xs])
    return PathCommand(poses, relative, None if times is None else np.array(times))


def velocity(x: float) -> VelocityCommand:
    return VelocityCommand(np.array([x, 0.0, 0.0]), np.zeros(3))


def lockstep(**settings) -> LockstepPlanner:
    settings = {"chunk_frames": 17, **settings}
    return LockstepPlanner(PERIOD, PlannerSettings(**settings))


def realtime(**settings) -> RealtimePlanner:
    return RealtimePlanner(PERIOD, PlannerSettings(**{"chunk_frames": 5, **settings}))


def give(planner, *commands, now: float = 0.0, shown: np.ndarray = ORIGIN) -> None:
    for command in commands:
        planner.add(command, now, shown)


def chunks(planner) -> list[list[float]]:
    found = []
    while (chunk := planner.next_chunk(0.0)) is not None:
        found.append(np.round(chunk.poses[:, 0, 3], 9).tolist())
    return found


def frames(planner) -> list[float]:
    return [x for chunk in chunks(planner) for x in chunk]


# --- Lockstep ---


def test_lockstep_simulates_a_full_chunk_at_once_with_exactly_the_commanded_poses():
    planner = lockstep()
    xs = [0.1 * i for i in range(17)]
    give(planner, *(go(x) for x in xs))
    assert chunks(planner) == [np.round(xs, 9).tolist()]


def test_lockstep_waits_for_more_poses_and_then_simulates_what_came():
    planner = lockstep(lockstep_timeout=0.5)
    give(planner, *(go(x) for x in range(5)))
    planner.idle(0.4)
    assert chunks(planner) == []
    give(planner, go(5))
    planner.idle(0.4)
    assert chunks(planner) == []
    planner.idle(0.2)
    assert chunks(planner) == [[0, 1, 2, 3, 4], [5]]


def test_lockstep_makes_one_frame_of_each_pose_however_many_come():
    for count in range(1, 60):
        planner = lockstep()
        give(planner, *(go(x) for x in range(count)))
        planner.idle(1.0)
        found = chunks(planner)
        assert [x for chunk in found for x in chunk] == list(range(count))
        assert all(len(chunk) % 4 == 1 for chunk in found)


def test_lockstep_makes_the_same_chunks_however_busy_the_simulator_is():
    eager, lazy = lockstep(), lockstep()
    eager_chunks = []
    for x in range(40):
        give(eager, go(x))
        give(lazy, go(x))
        eager_chunks += chunks(eager)
    for planner in (eager, lazy):
        planner.idle(1.0)
    assert eager_chunks + chunks(eager) == chunks(lazy)


def test_a_path_is_complete_by_itself():
    planner = lockstep()
    give(planner, go(1), follow(2, 3, 4, 5, 6))
    assert chunks(planner) == [[1], [2, 3, 4, 5, 6]]


def test_a_timed_path_is_resampled_and_starts_with_the_next_frame():
    planner = lockstep()
    give(planner, follow(10, 14, times=[0.0, 4 * PERIOD]))
    assert chunks(planner) == [[10, 11, 12, 13, 14]]


def test_lockstep_velocity_moves_the_camera_one_frame_per_message():
    planner = lockstep()
    planner.restart(at(3))
    give(planner, *[velocity(1.5)] * 5)
    planner.idle(1.0)
    np.testing.assert_allclose(chunks(planner), [3 + 0.1 * np.arange(1, 6)])


def test_relative_poses_in_lockstep_refer_to_what_was_commanded_before():
    planner = lockstep()
    planner.restart(at(10))
    give(planner, *[go(1, relative=True)] * 3, follow(1, 2, relative=True))
    assert frames(planner) == [11, 12, 13, 14, 15]


def test_a_full_queue_refuses_more_and_keeps_what_it_has():
    planner = lockstep(max_pending_frames=20)
    give(planner, *(go(x) for x in range(18)))
    with pytest.raises(CommandError, match=r"3 more frames commanded, but .* room for 2"):
        give(planner, follow(1, 2, 3))
    assert planner.pending_frames == 18
    with pytest.raises(CommandError, match="room for 2"):
        give(planner, follow(0, 1, times=[0.0, 1e9]))


def test_stamps_that_run_backwards_are_refused_within_a_sequence():
    planner = lockstep()
    give(planner, go(1, stamp=10.0))
    with pytest.raises(CommandError, match="5 s runs backwards, behind the 10 s"):
        give(planner, go(2, stamp=5.0))
    give(planner, go(3), go(4, stamp=10.0))
    planner.idle(1.0)
    assert frames(planner) == [1, 3, 4]
    give(planner, go(5, stamp=1.0))  # a new sequence


# --- Realtime ---


def test_realtime_holds_the_pose_without_commands():
    planner = realtime()
    planner.restart(at(2))
    np.testing.assert_array_equal(planner.next_chunk(0.0).poses, np.stack([at(2)] * 5))


def test_realtime_reaches_a_pose_with_the_chunk_and_holds_it():
    planner = realtime()
    give(planner, go(0.5))
    np.testing.assert_allclose(planner.next_chunk(0.0).poses[:, 0, 3], [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(planner.next_chunk(0.0).poses[:, 0, 3], 0.5)


def test_realtime_takes_more_chunks_for_a_far_pose_and_the_newest_wins():
    planner = realtime(max_linear_speed=1.5)
    give(planner, go(10))
    np.testing.assert_allclose(planner.next_chunk(0.0).poses[:, 0, 3], 0.1 * np.arange(1, 6))
    give(planner, go(-7), go(0.5))
    np.testing.assert_allclose(planner.next_chunk(0.0).poses[:, 0, 3], 0.5)


def test_realtime_follows_a_path_over_chunks_and_holds_its_end():
    planner = realtime()
    give(planner, follow(*range(1, 8)))
    assert planner.next_chunk(0.0).poses[:, 0, 3].tolist() == [1, 2, 3, 4, 5]
    assert planner.next_chunk(0.0).poses[:, 0, 3].tolist() == [6, 7, 7, 7, 7]
    assert planner.next_chunk(0.0).poses[:, 0, 3].tolist() == [7] * 5


def test_realtime_refers_relative_poses_to_the_camera_as_shown():
    planner = realtime(max_linear_speed=1000.0)
    planner.restart(at(5))
    give(planner, go(1, relative=True), shown=at(3))
    assert planner.next_chunk(0.0).poses[-1, 0, 3] == 4


def test_realtime_holds_a_velocity_while_it_is_fresh():
    planner = realtime(cmd_vel_timeout=0.5)
    give(planner, velocity(1.5), now=0.0)
    # Its first chunk, even if that is planned late; then only while it is young.
    assert planner.next_chunk(1.0).poses[-1, 0, 3] == pytest.approx(0.5)
    assert planner.next_chunk(1.3).poses[-1, 0, 3] == pytest.approx(0.5)
    give(planner, velocity(1.5), now=2.0)
    assert planner.next_chunk(2.1).poses[-1, 0, 3] == pytest.approx(1.0)
    assert planner.next_chunk(2.4).poses[-1, 0, 3] == pytest.approx(1.5)


def test_a_velocity_above_the_limit_is_shortened():
    planner = realtime(max_linear_speed=1.5)
    give(planner, velocity(100.0))
    assert planner.next_chunk(0.0).poses[-1, 0, 3] == pytest.approx(0.5)


def test_realtime_reports_when_a_chunk_was_commanded():
    planner = realtime()
    give(planner, go(1), now=4.0)
    assert planner.next_chunk(5.0).commanded == 4.0
    assert planner.next_chunk(6.0).commanded is None


@pytest.mark.parametrize("kind", [LockstepPlanner, RealtimePlanner])
def test_frames_by_number_follow_what_is_commanded_and_then_hold(kind):
    planner = kind(PERIOD, PlannerSettings(chunk_frames=17))
    planner.restart(ORIGIN)
    assert np.array_equal(planner.next_frames(1, 0.0).poses, ORIGIN[None])
    planner.add(follow(1, 2, 3, 4, 5, 6), 0.0, ORIGIN)
    assert planner.next_frames(1, 0.0).poses[:, 0, 3].tolist() == [1]
    assert planner.next_frames(9, 0.0).poses[:, 0, 3].tolist() == [2, 3, 4, 5, 6, 6, 6, 6, 6]


def test_what_a_step_leaves_of_a_lockstep_chunk_is_split_anew():
    planner = LockstepPlanner(PERIOD, PlannerSettings(chunk_frames=17))
    planner.restart(ORIGIN)
    planner.add(follow(*range(17)), 0.0, ORIGIN)
    planner.next_frames(1, 0.0)
    left = []
    while chunk := planner.next_chunk(0.0):
        assert len(chunk.poses) % 4 == 1
        left.extend(chunk.poses[:, 0, 3])
    assert left == list(range(1, 17))


# --- Observations ---


def test_in_lockstep_relative_commands_go_on_from_where_the_camera_was_seen():
    planner = lockstep()
    planner.observed(at(10))
    give(planner, follow(1, 2, relative=True))
    assert frames(planner) == [11, 12]


def test_in_lockstep_an_observation_leaves_what_is_commanded():
    planner = lockstep()
    give(planner, follow(1, 2))
    assert planner.ready
    planner.observed(at(10))
    give(planner, follow(1, relative=True))
    assert frames(planner) == [1, 2, 3]
    assert not planner.ready


def test_in_realtime_the_way_to_a_goal_goes_on_from_where_the_camera_was_seen():
    planner = realtime(max_linear_speed=1000.0)
    give(planner, go(5))
    planner.observed(at(10))
    np.testing.assert_allclose(planner.next_chunk(0.0).poses[:, 0, 3], [9, 8, 7, 6, 5])
