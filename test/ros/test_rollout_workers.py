# SPDX-License-Identifier: Apache-2.0
"""Rollouts on workers, where there are none: the node goes on and says why. No Ray is started."""

import queue
import time
from types import SimpleNamespace

import numpy as np
import pytest
import small_futures
from small_futures import LocalHand

import small_models
from hydra_model.workers import ray_crew
from hydra_model.workers.crew import Crew, NoWorkers, WorkerLost
from hydra_ros.parameters import Settings
from hydra_ros.rollout_scheduler import Abandoned, Job
from hydra_ros.rollout_workers import RolloutWorkers

SECONDS = 60


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)

    error = info


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def world(folder):
    return small_futures.begun(small_futures.recipe(folder).load())


@pytest.fixture
def posted():
    """What was posted to the executor's thread, which is the test's."""
    return queue.Queue()


def start(folder, world, posted, **settings) -> tuple[RolloutWorkers, Log]:
    log = Log()
    settings = Settings(model=str(folder), device="cpu", dtype="float32", **settings)
    return RolloutWorkers(settings, world, posted.put, log), log


@pytest.fixture
def local(folder, world, posted, monkeypatch):
    """Start workers in this process, whose hands meet some trouble."""
    started = []

    def local(trouble=None) -> RolloutWorkers:
        load = small_futures.recipe(folder).load
        crew = Crew(lambda number: LocalHand(load(), trouble), 2)
        opened = SimpleNamespace(crew=crew, count=2, gpus=False, close=crew.close)
        monkeypatch.setattr(ray_crew, "open_crew", lambda *args, **kwargs: opened)
        workers, log = start(folder, world, posted, workers=2)
        started.append(workers)
        workers._opening.join(SECONDS)
        assert log.lines == [
            "rollouts are imagined by 2 workers, each with a processor of its own"
        ]
        return workers

    yield local
    for workers in started:
        workers.close("the end of the test")


def asked(workers: RolloutWorkers, world, frames: int = 18, **options) -> Job:
    paths = small_futures.fan(3, frames)
    job = Job(begin=lambda _: workers.imagination(world.state(), paths, **options), priority=0)
    workers.add(job)
    return job


def answer(job: Job, posted: queue.Queue):
    """Serve what is posted until the job is done."""
    end = time.monotonic() + SECONDS
    while not job.done.done():
        posted.get(timeout=end - time.monotonic())()
    return job.done.result(0)


def test_without_ray_one_line_names_the_extra(folder, world, posted, monkeypatch):
    monkeypatch.setattr(ray_crew, "ray_installed", lambda: False)
    workers, log = start(folder, world, posted, workers=2)
    workers._opening.join(SECONDS)
    assert not workers.ready
    (line,) = log.lines
    assert "rollouts run in the simulator" in line and "pip install 'hydra_ros[ray]'" in line
    workers.close("the end")


def test_an_address_that_cannot_be_one_is_told(folder, world, posted):
    workers, log = start(folder, world, posted, ray_address="mainframe")
    workers._opening.join(SECONDS)
    assert not workers.ready and "accepted: HOST:PORT" in log.lines[0]
    workers.close("the end")


def test_a_job_is_answered_with_its_work(local, world, posted):
    workers = local()
    assert workers.ready
    job = asked(workers, world)
    assert workers.jobs == 1
    work = answer(job, posted)
    assert workers.jobs == 0 and job.started >= job.accepted
    assert [len(future.frames) for future in work.results()] == [18] * 3
    assert np.array_equal(work.results()[1].states[-1].pose, small_futures.fan(3, 18)[1][-1])


def test_an_abandoned_job_ends_at_once_and_another_is_served(local, world, posted):
    workers = local()
    job = asked(workers, world, frames=9000)
    job.abandon("canceled")
    workers.pump()
    assert workers.jobs == 0
    with pytest.raises(Abandoned, match="canceled"):
        job.done.result(0)
    assert answer(asked(workers, world), posted)


def test_a_job_whose_workers_all_die_fails_with_the_reason(local, world, posted):
    def trouble(batch, chunks):
        raise WorkerLost("a power cut")

    workers = local(trouble)
    with pytest.raises(NoWorkers, match="a power cut"):
        answer(asked(workers, world), posted)


def test_paths_that_cannot_be_imagined_fail_alone(local, world, posted):
    workers = local()
    job = Job(begin=lambda _: workers.imagination(world.state(), []), priority=0)
    workers.add(job)
    with pytest.raises(ValueError, match="no candidate paths"):
        job.done.result(0)
    assert answer(asked(workers, world), posted)


def test_closing_answers_every_job(local, world, posted):
    workers = local()
    jobs = [asked(workers, world, frames=9000) for _ in range(2)]
    workers.close("the end")
    for job in jobs:
        with pytest.raises(Abandoned, match="the end"):
            job.done.result(0)
    assert not workers.ready
