# SPDX-License-Identifier: Apache-2.0
"""Two workers of a Ray on this machine: processes that can be killed."""

import os
import signal
import socket
import threading
import time

import pytest
import small_futures
from small_futures import fan, same

import small_models
from hydra_model.workers import ray_crew
from hydra_model.workers.crew import NoWorkers
from hydra_model.workers.ray_crew import RayUnavailable, open_crew
from hydra_model.workers.spread import SpreadImagination, imagine
from hydra_model.world import Cancelled, World

pytestmark = pytest.mark.skipif(not ray_crew.ray_installed(), reason="Ray is not installed")

CANDIDATES, FRAMES = 16, 18
SECONDS = 120  # for what should take a moment
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as the kernel writes it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def world(folder) -> World:
    return small_futures.begun(small_futures.recipe(folder).load())


@pytest.fixture(scope="module")
def opened(folder, world):
    opened = open_crew(small_futures.recipe(folder), workers=2, weights=world.weights)
    yield opened
    processes = pids(opened.crew)
    opened.close()
    wait_until(lambda: not any(alive(pid) for pid in processes))


@pytest.fixture
def crew(opened):
    assert opened.crew.wait(2, SECONDS)
    return opened.crew


def pids(crew) -> list[int]:
    return [hand.pid for hand in crew.hands]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_lost_in_the_middle_does_not_change_the_frames(crew, opened, world, caplog):
    assert opened.count == 2 and not opened.gpus
    state, paths = world.state(), fan(CANDIDATES, FRAMES)
    both = imagine(crew, world, state, paths)
    assert [future.candidate for future in both] == list(range(CANDIDATES))
    # One worker alone gives the same frames: the other one is kept busy meanwhile.
    busy = SpreadImagination(crew, world, state, fan(1, 9000), every=0, priority=1)
    busy.start()
    wait_until(lambda: busy.frames_done)
    alone = imagine(crew, world, state, paths)
    assert not busy.finished
    assert same(alone, both)
    # And so does the other alone, when this one is killed with work in its hands.
    told = threading.Event()
    work = SpreadImagination(crew, world, state, paths, on_chunk=lambda parts: told.set())
    busy.cancel()
    with pytest.raises(Cancelled):
        busy.done.result(SECONDS)
    work.start()
    assert told.wait(SECONDS)
    victim = next(slot for slot in crew._slots if slot.piece and slot.piece.order is work)
    os.kill(victim.hand.pid, signal.SIGKILL)
    work.done.result(SECONDS)
    assert same(work.results(), both)
    lost = [record.message for record in caplog.records if "was lost" in record.message]
    assert len(lost) == 1 and "imagined again elsewhere" in lost[0]


def test_the_worker_is_replaced(crew, world):
    assert len(set(pids(crew))) == 2 and all(alive(pid) for pid in pids(crew))
    assert len(imagine(crew, world, world.state(), fan(5, 9), states=False)) == 5


def test_cancelling_reaches_a_worker_that_computes(crew, world):
    work = SpreadImagination(crew, world, world.state(), fan(8, 9000), every=0)
    work.start()
    wait_until(lambda: work.frames_done)
    before = pids(crew)
    work.cancel()
    with pytest.raises(Cancelled):
        work.done.result(SECONDS)
    imagine(crew, world, world.state(), fan(2, 9))
    assert pids(crew) == before


def test_what_a_worker_raises_comes_back_as_it_is(crew, world):
    work = SpreadImagination(crew, world, world.state(), fan(1, 9))
    work._policy = "astrology"
    work.start()
    with pytest.raises(ValueError, match="astrology"):
        work.done.result(SECONDS)


def test_ray_listens_on_the_loopback_interface_alone(crew):
    ours = descendants(os.getpid())
    assert len(ours) > 3
    inodes = {inode for pid in ours for inode in sockets_of(pid)}
    addresses = {address for address, inode in listening() if inode in inodes}
    assert addresses
    assert addresses <= LOOPBACK


def descendants(root: int) -> set[int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = {root}
    while new := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def sockets_of(pid: int) -> set[str]:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return set()
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def listening() -> list[tuple[str, str]]:
    lines = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            lines += [line.split() for line in file.readlines()[1:]]
    return [(words[1].split(":")[0], words[9]) for words in lines if words[3] == "0A"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "0 workers on this machine"),
        ({"address": "ray://10.0.0.1:10001"}, "accepted: HOST:PORT"),
        ({"address": "mainframe"}, "accepted: HOST:PORT"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        open_crew(small_futures.recipe(folder), **options)


def test_a_cluster_that_is_not_there_is_named(folder):
    with socket.socket() as taken:  # a port that nobody listens at
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RayUnavailable, match=f"joined at {address}: .*refused"):
            open_crew(small_futures.recipe(folder), address=address)


def test_without_ray_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setattr(ray_crew, "ray_installed", lambda: False)
    with pytest.raises(RayUnavailable, match=r"pip install 'hydra_ros\[ray\]'"):
        open_crew(small_futures.recipe(folder), workers=2)


def test_when_all_are_gone_for_good_the_reason_is_told(crew, world, monkeypatch):
    def nobody(self):
        raise RuntimeError("no more room")

    monkeypatch.setattr(ray_crew.RayHand, "begin", nobody)
    work = SpreadImagination(crew, world, world.state(), fan(8, 9000), every=0)
    work.start()
    wait_until(lambda: work.frames_done)
    for pid in pids(crew):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(NoWorkers, match="none can be started: no more room"):
        work.done.result(SECONDS)
