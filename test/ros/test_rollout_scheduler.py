# SPDX-License-Identifier: Apache-2.0
"""Who gets the simulation thread when; its time is told by the test."""

from concurrent.futures import Future

import pytest

from hydra_ros.rollout_scheduler import Abandoned, Job, RolloutScheduler

SLICES = 4  # a chunk


class Counted:
    """A rollout of some chunks that notes its slices in a common log."""

    state = None
    seconds: dict[str, float] = {}
    batch = widest = 1

    def __init__(self, name: str, log: list[str], chunks: int = 1) -> None:
        self.name, self.log = name, log
        self.frames_done, self.frames_total = 0, 17 * chunks
        self.widths: list[int] = []

    def slices(self):
        while self.frames_done < self.frames_total:
            self.widths.append(self.batch)
            for index in range(SLICES):
                self.log.append(self.name)
                self.frames_done += 17 * (index == SLICES - 1)
                yield "sampling"

    def results(self):
        return []


class Stage:
    """A simulation thread and a live stream that stand still until the test moves them."""

    def __init__(self, realtime: bool = False, widest: int = 8) -> None:
        self.realtime, self.spare_seconds, self.chunks = realtime, 1.0, 0
        self.wanted = False
        self.turns: list = []
        self.log: list[str] = []
        self.scheduler = RolloutScheduler(
            self._call, lambda: self.wanted, self, lambda function: function(), widest
        )

    def _call(self, work):
        future: Future = Future()
        self.turns.append((work, future))
        return future

    def add(self, name: str, *, chunks: int = 1, priority: int = 0) -> Job:
        job = Job(begin=lambda world: Counted(name, self.log, chunks), priority=priority)
        self.scheduler.add(job)
        return job

    def turn(self) -> None:
        """Let the thread serve the turn that waits."""
        work, future = self.turns.pop(0)
        try:
            result = work(None)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def finish(self) -> str:
        while self.turns:
            self.turn()
        return "".join(self.log)


def test_equal_goals_take_turns_chunk_by_chunk():
    stage = Stage()
    jobs = [stage.add("a", chunks=2), stage.add("b", chunks=3)]
    assert stage.finish() == "aaaabbbb" * 2 + "bbbb"
    assert all(job.done.result(0).frames_done == job.work.frames_total for job in jobs)


def test_a_higher_priority_goes_first_even_within_a_chunk():
    stage = Stage()
    stage.wanted = True  # every turn ends after one slice
    stage.add("a", chunks=2)
    stage.turn()
    stage.add("b", priority=1)
    stage.turn()  # the turn that was asked for already
    assert stage.finish().startswith("aa" + "bbbb" + "aa")


def test_a_turn_ends_after_one_slice_when_somebody_else_wants_the_thread():
    stage = Stage()
    stage.add("a")
    stage.wanted = True
    stage.turn()
    assert stage.log == ["a"]


def test_in_lockstep_no_turn_begins_while_a_live_step_runs():
    stage = Stage()
    stage.spare_seconds = None
    stage.add("a")
    assert not stage.turns
    stage.spare_seconds = float("inf")
    stage.scheduler.pump()
    assert stage.finish() == "aaaa"


def test_in_realtime_a_turn_needs_spare_frames():
    stage = Stage(realtime=True)
    stage.scheduler._slice_seconds = 0.2
    stage.chunks = 5
    stage.spare_seconds = 0.1
    stage.add("a")
    stage.turn()  # the one after each live chunk
    assert not stage.turns and stage.log == ["a"]
    stage.spare_seconds = 0.5
    stage.scheduler.pump()
    assert stage.turns


def test_a_stream_that_has_no_spare_time_still_gives_one_slice_a_chunk():
    stage = Stage(realtime=True)
    stage.spare_seconds = None
    stage.add("a", chunks=2)
    for chunk in range(1, 4):
        stage.finish()
        stage.chunks = chunk
        stage.scheduler.pump()
        stage.scheduler.pump()
    assert stage.finish() == "aaaa"


def test_in_realtime_batches_grow_only_while_their_slices_are_short():
    stage = Stage(realtime=True)
    job = stage.add("a", chunks=6)
    stage.finish()
    assert job.work.widths == [1, 2, 4, 8, 8, 8]
    stage.scheduler._slice_seconds = 1.0
    stage.scheduler._adapt()
    assert stage.scheduler._width == 4


def test_in_lockstep_batches_are_as_wide_as_they_may_be():
    stage = Stage(widest=8)
    job = stage.add("a")
    stage.finish()
    assert job.work.widths == [8]


def test_a_batch_that_did_not_fit_is_not_tried_again():
    class Short(Counted):
        def slices(self):
            for piece in super().slices():
                self.batch = min(self.batch, 2)  # as after running out of memory
                yield piece

    stage = Stage()
    job = Job(begin=lambda world: Short("a", stage.log, 3), priority=0)
    stage.scheduler.add(job)
    stage.finish()
    assert job.work.widths == [8, 2, 2]


def test_an_abandoned_goal_ends_before_its_next_slice():
    stage = Stage()
    stage.wanted = True
    job = stage.add("a", chunks=5)
    stage.turn()
    job.abandon("canceled")
    stage.finish()
    assert stage.log == ["a"]
    with pytest.raises(Abandoned, match="canceled"):
        job.done.result(0)


def test_a_goal_that_fails_fails_alone():
    stage = Stage()

    def fail(world):
        raise RuntimeError("out of everything")

    job = Job(begin=fail, priority=0)
    stage.scheduler.add(job)
    other = stage.add("b")
    assert stage.finish() == "bbbb"
    assert isinstance(job.done.exception(0), RuntimeError)
    assert other.done.result(0)


def test_closing_answers_every_goal():
    stage = Stage()
    jobs = [stage.add("a"), stage.add("b")]
    stage.scheduler.close("the end")
    stage.finish()
    for job in jobs:
        with pytest.raises(Abandoned, match="the end"):
            job.done.result(0)
