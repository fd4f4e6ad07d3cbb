# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, with a real simulator: what a user sees and does."""

import asyncio
import contextlib
import itertools
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import pytest
from action_msgs.msg import GoalStatus, GoalStatusArray
from system.simulator import NODE, wait_until
from system.web import Socket, browser, running_web

import small_models
from hydra_ros import conversions

NAMESPACE = "/page"
STALL = 4.0


@pytest.fixture(scope="module")
def simulator(start_simulator, tmp_path_factory):
    model = tmp_path_factory.mktemp("small_model")
    small_models.write_model(model, context_latents=20, chunk_latents=20)
    settings = {"mode": "realtime", "seed": 3, "sampler_steps": 1}
    settings |= {"model": model, "states_folder": model / "states"}
    with start_simulator(NAMESPACE, **settings) as started:
        wait_until(lambda: started.client.poses, "frame")
        yield started


@pytest.fixture(scope="module")
def web(simulator):
    with running_web(NAMESPACE, "--stall-timeout", str(STALL)) as started:
        yield started


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture
def page(chromium, web):
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: line.type == "error" and problems.append(line.text))
    page.goto(web.address)
    wait(page, "() => Number(document.getElementById('image').dataset.frames) > 3")
    yield page
    page.close()
    assert problems == []


def wait(page, condition: str, timeout: float = 60.0) -> None:
    """Wait until a JavaScript function returns what counts as true."""
    page.wait_for_function(condition, timeout=1000 * timeout)


def position(client) -> np.ndarray:
    return conversions.pose_from_message(client.poses[-1].pose)[:3, 3]


def stands_still(client) -> bool:
    client.forget()
    wait_until(lambda: len(client.poses) > 15, "frames")
    return np.abs(np.diff(client.shown_poses()[:, :3, 3], axis=0)).max() < 1e-9


@contextlib.asynccontextmanager
async def connected(web) -> AsyncIterator[Socket]:
    """Connect as a page does."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(web.address.replace("http", "ws") + "socket") as opened,
    ):
        yield Socket(opened)


def run(work: Coroutine) -> Any:
    """Run a coroutine on a thread: the browser's library has a loop of its own on this one."""
    with ThreadPoolExecutor() as threads:
        return threads.submit(lambda: asyncio.run(work)).result(60)


def picture(page) -> bytes:
    return page.locator("#image").screenshot()


def test_the_page_shows_frames_that_change_and_the_state_of_the_simulator(page):
    before = int(page.get_attribute("#image", "data-frames"))
    first = picture(page)
    wait(page, f"() => Number(document.getElementById('image').dataset.frames) > {before + 15}")
    assert picture(page) != first
    wait(page, "() => document.querySelector('#pill-state b').textContent === 'running'")
    assert page.inner_text("#pill-mode") == "realtime"
    assert page.is_hidden("#banner")
    assert re.fullmatch(r"[\d.]+ fps", page.inner_text("#hud-rate"))
    wait(page, "() => document.getElementById('now-factor').textContent !== ''")


def test_a_held_key_moves_the_camera_and_it_stops_when_the_key_is_let_go(page, simulator):
    client = simulator.client
    start = position(client)
    page.keyboard.down("w")
    wait_until(lambda: np.linalg.norm(position(client) - start) > 0.1, "motion", 30)
    wait(page, "() => document.getElementById('pill-driver').textContent === 'you drive'")
    page.keyboard.up("w")
    wait_until(lambda: stands_still(client), "standstill", 30)


def test_the_camera_stops_when_the_page_goes_away_under_a_held_key(chromium, web, simulator):
    page = chromium.new_page()
    page.goto(web.address)
    wait(page, "() => Number(document.getElementById('image').dataset.frames) > 0")
    start = position(simulator.client)
    page.keyboard.down("s")
    wait_until(lambda: np.linalg.norm(position(simulator.client) - start) > 0.05, "motion", 30)
    page.close()
    wait_until(lambda: stands_still(simulator.client), "standstill", 30)


def test_dragging_on_the_image_turns_the_camera(page, simulator):
    box = page.locator("#image").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def heading() -> float:
        pose = conversions.pose_from_message(simulator.client.poses[-1].pose)
        return np.arctan2(pose[1, 0], pose[0, 0])

    start = heading()
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 80, middle[1])
    assert page.is_visible("#stick")
    wait_until(lambda: 0.05 < (heading() - start) % (2 * np.pi) < np.pi, "turn to the left", 30)
    page.mouse.up()
    assert page.is_hidden("#stick")


def test_a_finger_held_on_a_button_drives(chromium, web, simulator):
    phone = chromium.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = phone.new_page()
    page.goto(web.address)
    wait(page, "() => Number(document.getElementById('image').dataset.frames) > 0")
    box = page.get_by_role("button", name="Right (D)").bounding_box()
    finger = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touches = phone.new_cdp_session(page)
    start = position(simulator.client)
    touches.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [finger]})
    wait_until(lambda: np.linalg.norm(position(simulator.client) - start) > 0.05, "motion", 30)
    touches.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_until(lambda: stands_still(simulator.client), "standstill", 30)
    phone.close()


def test_typing_into_a_field_does_not_drive(page, simulator):
    page.fill("#state-name", "")
    page.type("#state-name", "wasd")
    assert page.input_value("#state-name") == "wasd"
    assert page.is_hidden("#pill-driver")


def test_reset_starts_the_world_of_the_seed(page):
    page.fill("#reset-seed", "5")
    page.click("#reset")
    page.get_by_text("procedural world 5").first.wait_for(timeout=60_000)


def test_a_saved_state_is_listed_loaded_and_deleted(page, simulator):
    available = "() => !document.getElementById('save').disabled"
    wait(page, available, 30)
    page.fill("#state-name", "here")
    page.click("#save")
    page.get_by_role("button", name="Load here").wait_for(timeout=60_000)
    saved = position(simulator.client)
    page.keyboard.down("w")
    wait_until(lambda: np.linalg.norm(position(simulator.client) - saved) > 0.3, "motion", 30)
    page.keyboard.up("w")
    page.get_by_role("button", name="Load here").click()
    wait_until(lambda: np.linalg.norm(position(simulator.client) - saved) < 0.1, "old place", 60)
    page.get_by_role("button", name="Delete here").click()
    page.get_by_role("button", name="Load here").wait_for(state="detached", timeout=60_000)


def test_branching_keeps_the_moment_under_a_new_name_each_time(page):
    wait(page, "() => !document.getElementById('branch').disabled", 30)
    for name in ("branch-1", "branch-2"):
        page.click("#live", position={"x": 5, "y": 5})
        page.keyboard.press("b")
        page.get_by_role("button", name=f"Load {name}").wait_for(timeout=60_000)


def test_the_memory_is_drawn_and_the_context_of_the_last_chunk_shown(page):
    page.locator("#frames li").first.wait_for(timeout=60_000)
    page.click("#thumbnails")
    wait(page, "() => document.querySelector('#frames img')?.naturalWidth > 0")
    assert "relevance" in page.locator("#frames li").first.get_attribute("title")
    assert "remembered" in page.inner_text("#strip-note")


def test_two_futures_are_played_side_by_side_and_one_is_made_real(page, simulator):
    wait(page, "() => !document.getElementById('imagine').disabled", 30)
    page.fill("#future-seconds", "0.5")
    page.select_option("#future-a", "forward")
    page.click("#imagine")
    page.locator("#pair").wait_for(timeout=240_000)
    shown = [page.locator("#pair canvas").nth(index) for index in range(2)]
    assert [int(canvas.get_attribute("data-frames")) > 4 for canvas in shown] == [True, True]
    first = shown[0].get_attribute("data-shown")
    wait(page, f"() => document.querySelector('#pair canvas').dataset.shown !== '{first}'")
    before = position(simulator.client)
    page.get_by_role("button", name="Make this real: forward").click()
    wait_until(lambda: np.linalg.norm(position(simulator.client) - before) > 0.2, "jump", 60)


def test_what_is_imagined_can_be_given_up(page):
    wait(page, "() => !document.getElementById('imagine').disabled", 30)
    told = page.text_content("#futures-note")
    page.fill("#future-seconds", "10")
    page.click("#imagine")
    assert page.text_content("#futures-note") != told
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_text("cancelled").wait_for()
    page.get_by_role("button", name="Imagine", exact=True).wait_for()
    assert page.text_content("#futures-note") == told


def test_a_page_that_imagines_several_times_gives_each_up_by_its_number(page):
    wait(page, "() => !document.getElementById('imagine').disabled", 30)
    ends = page.evaluate(
        """async () => {
            const { Connection } = await import("/connection.js");
            const connection = new Connection();
            const open = new Promise((done) => connection.addEventListener("open", done));
            connection.connect();
            await open;
            const velocities = [{ linear: [0.1, 0, 0], angular: [0, 0, 0] }];
            const begin = (seconds) => connection.begin("imagine", { velocities, seconds });
            const calls = [begin(20), begin(20), begin(0.2)];
            const settled = Promise.allSettled(calls.map((call) => call.answer));
            await connection.call("cancel", { imagining: calls[0].id });
            await connection.call("cancel", { imagining: calls[1].id });
            return (await settled).map((end) => end.reason?.message ?? end.value.futures.length);
        }"""
    )
    assert ends == ["cancelled", "cancelled", 1]


async def give_up_at_once(web, stopped) -> dict[int, dict[str, Any]]:
    """Imagine and cancel it while a process stands still; return both answers."""
    async with connected(web) as page:
        while not (await page.receive("status"))["available"].get("rollout"):
            pass
        stopped.send_signal(signal.SIGSTOP)
        try:
            velocities = [{"linear": [0.1, 0, 0], "angular": [0, 0, 0]}] * 4
            call = {"type": "call", "call": "imagine", "velocities": velocities, "seconds": 20}
            await page.send(**call, id=1)
            await asyncio.sleep(0.5)
            await page.send(type="call", call="cancel", id=2, imagining=1)
            await asyncio.sleep(0.5)
        finally:
            stopped.send_signal(signal.SIGCONT)
        answers = [await page.receive("answer") for _ in range(2)]
    return {answer["id"]: answer for answer in answers}


def test_what_is_given_up_before_it_is_accepted_is_not_computed(simulator, web):
    told = simulator.client.listen(GoalStatusArray, f"{NODE}/rollout/_action/status")
    answers = run(give_up_at_once(web, simulator.process))
    assert answers[2]["ok"]
    assert (answers[1]["ok"], answers[1]["message"]) == (False, "cancelled")

    def newest() -> int:
        goals = told[-1].status_list if told else []
        times = [(goal.goal_info.stamp.sec, goal.goal_info.stamp.nanosec) for goal in goals]
        return goals[times.index(max(times))].status if goals else GoalStatus.STATUS_UNKNOWN

    wait_until(lambda: newest() == GoalStatus.STATUS_CANCELED, "cancelled goal", 10)


def test_what_is_given_up_before_it_is_begun_is_answered(web):
    answers = run(give_up_at_once(web, web))
    assert answers[2]["ok"]
    assert (answers[1]["ok"], answers[1]["message"]) == (False, "cancelled")


def test_a_lost_connection_is_said_and_made_again(chromium, simulator):
    with running_web(NAMESPACE) as first:
        port = urlsplit(first.address).port
        page = chromium.new_page()
        page.goto(first.address)
        wait(page, "() => Number(document.getElementById('image').dataset.frames) > 0")
        first.interrupt()
        wait(
            page, "() => /connection .* is lost/.test(document.getElementById('banner').innerText)"
        )
    with running_web(NAMESPACE, "--port", str(port)):
        wait(page, "() => document.getElementById('banner').hidden")
        page.close()


def test_a_browser_that_stops_reading_slows_nobody_and_is_closed(simulator, web):
    """It opens the page's WebSocket, and then never takes a byte from the network."""
    client = simulator.client

    def mean_interval() -> float:
        client.forget()
        arrivals = []
        end = time.monotonic() + STALL - 1
        while time.monotonic() < end:
            if len(client.poses) > len(arrivals):
                arrivals += [time.monotonic()] * (len(client.poses) - len(arrivals))
            time.sleep(0.005)
        assert len(arrivals) > (STALL - 1) * 5
        return float(np.mean(np.diff(arrivals)))

    async def look() -> int:
        """Count the frames that another browser gets."""
        async with connected(web) as reader:
            for count in itertools.count(1):
                await reader.receive("frame")
                await reader.send(type="acknowledge", sequence=reader.packs)
                if count == 15:
                    return count

    before = mean_interval()
    address = urlsplit(web.address)
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((address.hostname, address.port))
        stuck.sendall(
            b"GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        held = web.resident_megabytes
        assert mean_interval() < 1.5 * before + 0.02
        assert run(look()) == 15
        wait_until(lambda: web.logged("it took nothing for"), "end of that connection", 30)
        stuck.settimeout(20)
        with contextlib.suppress(ConnectionResetError):  # or an end; but never a wait
            while stuck.recv(65536):
                pass
        assert web.resident_megabytes < held + 8


def test_the_page_says_so_when_the_simulator_is_gone(page, simulator):
    """The last test of this module: it ends the simulator."""
    assert page.is_hidden("#banner")
    simulator.process.interrupt()
    wait(page, "() => /simulator is gone/.test(document.getElementById('banner').innerText)")
    assert page.is_disabled("#reset")
