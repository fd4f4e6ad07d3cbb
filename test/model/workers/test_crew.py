# SPDX-License-Identifier: Apache-2.0
"""Who imagines what, and what happens to those who are lost; workers in this process."""

import threading
import time

import numpy as np
import pytest
import small_futures
from small_futures import LocalHand, fan, same

import small_models
from hydra_model.imagination import imagine as imagine_here
from hydra_model.state_files import StateError
from hydra_model.workers.crew import Crew, NoWorkers, WorkerLost
from hydra_model.workers.spread import SpreadImagination, imagine
from hydra_model.workers.worker import WeightsMismatch, Worker
from hydra_model.world import Cancelled, World

SECONDS = 60  # for what should take a moment


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def world(folder) -> World:
    return small_futures.begun(small_futures.recipe(folder).load())


@pytest.fixture
def crew(folder):
    """Make a crew whose workers meet some trouble; it ends with the test."""
    made = []

    def make(count: int = 2, trouble=None) -> Crew:
        hands: list[LocalHand] = []

        def hire(number: int) -> LocalHand:
            hands.append(LocalHand(small_futures.recipe(folder).load(), trouble))
            return hands[-1]

        made.append(Crew(hire, count))
        made[-1].hired = hands
        return made[-1]

    yield make
    for one in made:
        one.close()


def lose_once(chunk: int = 1):
    """Lose the first worker that has so many chunks of a batch."""
    lost = threading.Event()

    def trouble(batch, chunks: int) -> None:
        if chunks == chunk and not lost.is_set():
            lost.set()
            raise WorkerLost("it was struck by lightning")

    return trouble


def test_one_worker_and_three_give_the_same_frames(world, crew):
    paths = [*fan(9, 18), *fan(2, 9)]
    one = imagine(crew(1), world, world.state(), paths, samples=2)
    three = imagine(crew(3), world, world.state(), paths, samples=2)
    assert len(one) == 22
    assert same(one, three)


def test_the_frames_are_those_imagined_here(world, crew):
    here = imagine_here(world, world.state(), fan(6, 18), batch=4, every=5)
    there = imagine(crew(), world, world.state(), fan(6, 18), every=5)
    for a, b in zip(here, there, strict=True):
        assert np.abs(a.frames.astype(int) - b.frames).max() <= 2  # threads round otherwise
        assert np.array_equal(a.poses, b.poses) and a.seed == b.seed


def test_a_future_can_be_gone_on_with_here(world, crew):
    state = world.state()
    (future,) = imagine(crew(), world, state, [small_futures.path(18)])
    assert [s.time for s in future.states] == pytest.approx([9 / 15, 18 / 15])
    # What is shared with the state it came from is not a copy.
    assert future.states[-1].memory.segments[:1] == state.memory.segments
    (expected,) = imagine_here(world, state, [small_futures.path(23)])
    world.restore(future.states[-1])
    frames = world.step(small_futures.path(23)[18:]).frames
    world.restore(state)
    assert np.abs(frames.astype(int) - expected.frames[18:]).max() <= 2


def test_states_are_sent_back_only_where_they_are_wanted(world, crew):
    (future,) = imagine(crew(), world, world.state(), fan(1, 9), states=False)
    assert future.states == () and future.ends == (9,)


def test_each_part_of_a_state_is_sent_once_to_a_worker(world, crew):
    team = crew(2)
    for _ in range(2):
        imagine(team, world, world.state(), fan(8, 9))
    assert [len(hand.sent) for hand in team.hired if hand.imagined] == [1] * sum(
        bool(hand.imagined) for hand in team.hired
    )


def test_candidates_of_a_lost_worker_are_imagined_elsewhere(world, crew, caplog):
    expected = imagine(crew(1), world, world.state(), fan(8, 18))
    told = []
    team = crew(2, lose_once())
    work = SpreadImagination(team, world, world.state(), fan(8, 18), on_chunk=told.extend)
    work.start()
    work.done.result(SECONDS)
    assert same(work.results(), expected)
    assert [r.message for r in caplog.records if "was lost" in r.message] == [
        caplog.records[0].message
    ]
    assert "lightning" in caplog.records[0].message
    # Every chunk is told once, though some were imagined twice.
    assert work.frames_done == work.frames_total == 8 * 18
    assert sorted((part.candidate, part.ends[0]) for part in told) == [
        (candidate, end) for candidate in range(8) for end in (9, 18)
    ]
    assert team.wait(2, SECONDS)  # and another worker has come


def test_a_batch_that_costs_every_worker_is_given_up(world, crew):
    def trouble(batch, chunks):
        raise WorkerLost("out of memory")

    team = crew(2, trouble)
    with pytest.raises(NoWorkers, match="cost 3 workers; the last: out of memory"):
        imagine(team, world, world.state(), fan(2, 9))


def test_where_nobody_can_be_hired_the_reason_is_told(world):
    tries = []

    def hire(number: int) -> LocalHand:
        tries.append(number)
        raise ValueError("the weights are gone")

    with Crew(hire, 2) as team:
        assert not team.wait(1, SECONDS)
        for count in (4, 6):  # tried again for every order
            with pytest.raises(NoWorkers, match="none can be started: the weights are gone"):
                imagine(team, world, world.state(), fan(2, 9))
            assert len(tries) <= count


def test_what_the_model_raises_is_not_the_worker_s_end(world, crew):
    def trouble(batch, chunks):
        if batch.every == 7:
            raise StateError("state is not known here")

    team = crew(1, trouble)
    with pytest.raises(StateError, match="not known here"):
        imagine(team, world, world.state(), fan(2, 9), every=7)
    assert len(imagine(team, world, world.state(), fan(2, 9))) == 2
    assert len(team.hired) == 1


def test_cancelling_stops_the_workers_and_the_next_order_is_served(world, crew):
    told = threading.Event()
    team = crew(2)
    work = SpreadImagination(
        team, world, world.state(), fan(8, 900), every=0, on_chunk=lambda parts: told.set()
    )
    work.start()
    assert told.wait(SECONDS)
    work.cancel()
    with pytest.raises(Cancelled):
        work.done.result(SECONDS)
    done = work.frames_done
    assert len(imagine(team, world, world.state(), fan(2, 9))) == 2
    assert done == work.frames_done < work.frames_total
    assert len(team.hired) == 2 and any(hand.given_up for hand in team.hired)


def test_a_higher_priority_goes_first(world, crew):
    begun, go_on = threading.Event(), threading.Event()

    def trouble(batch, chunks):
        begun.set()
        assert go_on.wait(SECONDS)

    team = crew(1, trouble)
    order = []
    works = []
    for priority in (0, 0, 5):
        work = SpreadImagination(
            team, world, world.state(), fan(1, 9), priority=priority,
            on_chunk=lambda parts, priority=priority: order.append(priority),
        )  # fmt: skip
        work.start()
        works.append(work)
        assert begun.wait(SECONDS)
    go_on.set()
    for work in works:
        work.done.result(SECONDS)
    assert order == [0, 5, 0]


def test_closing_ends_everything(world, crew):
    team = crew(2)
    work = SpreadImagination(team, world, world.state(), fan(8, 900), every=0)
    work.start()
    assert team.wait(2, SECONDS)
    begin = time.monotonic()
    team.close()
    assert time.monotonic() - begin < SECONDS
    with pytest.raises(NoWorkers, match="stopped"):
        work.done.result(0)
    assert all(hand.dismissed.is_set() for hand in team.hired)
    with pytest.raises(NoWorkers, match="stopped"):
        imagine(team, world, world.state(), fan(1, 9))


def test_a_worker_with_other_weights_is_not_taken(world):
    with pytest.raises(WeightsMismatch, match="those that are asked for are 0123456789abcdef"):
        Worker(world, "0123456789abcdef")
