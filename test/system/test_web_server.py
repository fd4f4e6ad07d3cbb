# SPDX-License-Identifier: Apache-2.0
"""The page's server without a simulator: who gets in, and what bad clients get."""

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest
from system.simulator import wait_until
from system.web import Socket, running_web

from hydra_ros.web.browser import MESSAGES_AT_ONCE
from hydra_ros.web.main import CANNOT_LISTEN, WRONG_INPUT
from hydra_ros.web.protocol import MAX_MESSAGE

TOKEN = "a-token-for-the-test"


@pytest.fixture(scope="module")
def web():
    with running_web() as started:
        yield started


@pytest.fixture(scope="module")
def open_web():
    """One that listens beyond loopback."""
    with running_web("", "--host", "0.0.0.0", "--token", TOKEN) as started:
        yield started


@asynccontextmanager
async def connected(address: str, path: str = "/socket", **headers: str):
    parts = urlsplit(address)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{parts.port}{path}", headers=headers) as opened,
    ):
        yield Socket(opened)


def get(address: str, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    async def ask():
        port = urlsplit(address).port
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text(), dict(answer.headers)

    return asyncio.run(ask())


def run_web(*options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hydra_ros.web.main", *options],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


# --- who gets in ---


def test_the_page_and_its_files_are_served_on_loopback(web):
    assert urlsplit(web.address).hostname == "127.0.0.1"
    for path, kind in (("/", "text/html"), ("/main.js", "javascript"), ("/style.css", "text/css")):
        status, text, headers = get(web.address, path)
        assert (status, kind in headers["Content-Type"]) == (200, True)
        assert "SPDX-License-Identifier: Apache-2.0" in text
        assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert get(web.address, "/../main.py")[0] == 404


@pytest.mark.parametrize(
    "name",
    ["n" * 300, "n" * 5000, "a%00b", "static/main.js", "%2e%2e/main.py"],
    ids=["long", "longer", "nul", "folder", "above"],
)
def test_a_name_that_is_no_file_of_the_page_is_not_found(web, name):
    status, text, headers = get(web.address, f"/{name}")
    assert (status, text.startswith("there is no file ")) == (404, True)
    assert len(text) < 120
    assert "Content-Security-Policy" in headers


def test_a_page_that_was_rebound_to_this_machine_is_refused(web):
    status, text, _ = get(web.address, Host="evil.com")
    assert status == 403
    assert "is not this machine" in text


def test_a_websocket_from_another_site_is_refused(web):
    async def attempt():
        async with connected(web.address, Origin="http://evil.com"):
            pass

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        asyncio.run(attempt())
    assert refused.value.status == 403


def test_beyond_loopback_everything_needs_the_token(open_web):
    assert f"?token={TOKEN}" in open_web.address
    for path in ("/", "/main.js", "/socket", "/?token=wrong", "/?token="):
        status, text, _ = get(open_web.address, path)
        assert (status, "token" in text) == (401, True)
    status, _, headers = get(open_web.address, f"/?token={TOKEN}", Host="robot:8080")
    assert status == 200
    cookie = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert get(open_web.address, "/main.js", Cookie=cookie.split(";")[0])[0] == 200

    async def connect():
        async with connected(open_web.address, Cookie=cookie.split(";")[0]) as browser:
            await browser.receive("hello")

    asyncio.run(connect())


def test_a_token_is_made_where_none_is_given():
    with running_web("", "--host", "0.0.0.0") as started:
        token = urlsplit(started.address).query.removeprefix("token=")
        assert len(token) >= 32
        assert get(started.address)[0] == 401
        assert get(started.address, f"/?token={token}")[0] == 200
        assert started.interrupt() == 0


# --- bad input ---


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        ("garbage", 1007, "not JSON"),
        ('{"type": "fly"}', 1007, "unknown type 'fly'"),
        ('{"type": "acknowledge", "sequence": 5}', 1007, "sequence 5 was not sent"),
        (b"\x00\x01", 1003, "not a text message"),
        ("x" * (MAX_MESSAGE + 1), 1009, f"a message of more than {MAX_MESSAGE} bytes"),
    ],
    ids=["text", "type", "sequence", "binary", "size"],
)
def test_garbage_closes_that_client_with_one_line_and_no_other(web, data, code, reason):
    async def attempt():
        async with connected(web.address) as good, connected(web.address) as bad:
            await good.receive("hello")
            await bad.receive("hello")
            await bad.send_raw(data)
            assert (await bad.closed())[0] == code
            await good.send(type="call", call="cancel", id=1, imagining=7)
            answer = await good.receive("answer")
            assert (answer["id"], answer["message"]) == (1, "call 7 imagines nothing")

    before = len(web.log)
    asyncio.run(attempt())
    wait_until(lambda: len(web.log) > before, "line about it")
    assert len(web.log) == before + 1
    assert f"closed with {code}: {reason}" in web.log[-1]


def test_a_client_that_sends_too_fast_is_closed(web):
    async def attempt():
        async with connected(web.address) as bad:
            for _ in range(MESSAGES_AT_ONCE + 100):
                await bad.send(type="drive", linear=[0, 0, 0], angular=[0, 0, 0])
            assert (await bad.closed())[0] == 1008

    asyncio.run(attempt())
    wait_until(lambda: web.logged("messages a second"), "line about it")


def test_what_is_no_http_is_answered_and_forgotten(web):
    with socket.create_connection(("127.0.0.1", urlsplit(web.address).port), 10) as raw:
        raw.sendall(b"\x16\x03\x01 no http at all\r\n\r\n")
        assert b"400" in raw.recv(1000)
    assert get(web.address)[0] == 200


def test_a_client_without_a_simulator_is_told_so(web):
    async def attempt():
        async with connected(web.address) as browser:
            status = await browser.receive("status")
            assert status["alive"] is False
            await browser.send(type="call", call="reset", id=1, source="", seed=0)
            answer = await browser.receive("answer")
            assert (answer["ok"], answer["message"]) == (False, "the simulator offers no reset")

    asyncio.run(attempt())


def test_a_port_in_use_is_one_line_and_an_exit_code(web):
    port = str(urlsplit(web.address).port)
    ended = run_web("--port", port)
    assert ended.returncode == CANNOT_LISTEN
    assert ended.stderr.splitlines() == [
        f"hydra_web: cannot listen on port {port} of 127.0.0.1: Address already in use; "
        "see --port and --host"
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token", "short"], "the token must be"),
        (["--namespace", "no good"], "namespace"),
        (["--port", "70000"], "70000"),
        (["--ros-args", "-p", "garbage"], "garbage"),
    ],
)
def test_wrong_arguments_are_one_line_and_an_exit_code(options, words):
    ended = run_web("--port", "0", *options)
    assert ended.returncode == WRONG_INPUT
    assert words in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_parameters_that_it_does_not_have_are_named() -> None:
    with running_web("", "--ros-args", "-p", "token:=secret-of-mine") as started:
        (line,) = [line for line in started.log if "unknown parameters are ignored" in line]
        assert "'token'" in line
        assert "secret-of-mine" not in line


def test_an_interrupt_while_it_is_still_starting_ends_it_cleanly():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.Popen(
        [sys.executable, "-m", "hydra_ros.web.main", "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def listens() -> bool:
        with socket.socket() as visitor:
            return visitor.connect_ex(("127.0.0.1", port)) == 0

    try:
        # It listens before it loads ROS, which takes longest.
        wait_until(lambda: listens() or started.poll() is not None, "open port")
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=20)
    finally:
        started.kill()
    assert (started.returncode, errors) == (0, "")


def test_it_ends_cleanly_while_a_browser_is_connected():
    with running_web() as started:

        async def stay():
            async with connected(started.address) as browser:
                await browser.receive("hello")
                code = await asyncio.to_thread(started.interrupt)
                return code, (await browser.closed())[0]

        assert asyncio.run(stay()) == (0, 1001)
        assert not started.logged("Traceback")
