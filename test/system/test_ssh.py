# SPDX-License-Identifier: Apache-2.0
"""``hydra_teleop`` and the page over SSH: a real server and client on this machine.

The server runs as whoever runs the tests, with keys of its own, and lets in only them.
"""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import termios
from pathlib import Path

import aiohttp
import pytest
from geometry_msgs.msg import Twist
from system.simulator import wait_until
from system.typist import teleop_command, typing_at
from system.web import Socket, running_web

SERVER = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    not (SERVER and shutil.which("ssh") and shutil.which("ssh-keygen")),
    reason="there is no OpenSSH server and client (on Debian: apt-get install openssh-server)",
)

# Notices within seconds that nothing comes from a client any more; the default is never.
SERVER_CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PrintMotd no
AcceptEnv *
ClientAliveInterval 1
ClientAliveCountMax 2
"""
# The other side gets the ROS domain of the tests, and with a sourced ROS where that is.
CLIENT_CONFIG = """
Host robot
  HostName 127.0.0.1
  Port {port}
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile {folder}/known_hosts
  SendEnv ROS_* RMW_* FAST* AMENT_* LD_LIBRARY_PATH PYTHONPATH
  LogLevel ERROR
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    """The beginning of a command line that reaches the host ``robot``."""
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for name in ("host_key", "user_key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    (folder / "server").write_text(SERVER_CONFIG.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT_CONFIG.format(folder=folder, port=port))
    if os.geteuid() == 0:  # the folder that the service makes when it starts, needed by root only
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    log = folder / "log"
    server = subprocess.Popen([SERVER, "-D", "-E", str(log), "-f", str(folder / "server")])
    try:
        wait_until(lambda: reachable(port) or server.poll() is not None, "SSH server", 20)
        command = ["ssh", "-F", str(folder / "client")]
        if os.geteuid() != 0:  # where terminals do not belong to the group tty, only root can
            tried = subprocess.run([*command, "-tt", "robot", "true"], stdin=subprocess.DEVNULL)
            if tried.returncode:
                pytest.skip("an SSH server that is not root's can open no terminal here")
        yield command
    finally:
        server.terminate()
        server.wait(10)
        print(log.read_text())


def test_keys_drive_through_ssh_and_the_terminals_are_put_back_on_both_sides(ssh, listener):
    twists = listener.listen(Twist, "/over_ssh/cmd_vel")
    teleop = shlex.join(teleop_command("/over_ssh", linear_acceleration=2.0))
    remote = f'stty -g; {teleop}; echo "ended with $?"; stty -g'
    with typing_at([*ssh, "-tt", "robot", remote]) as typist:
        assert b"forward, back" in typist.screen
        typist.hold(b"w", lambda: twists and twists[-1].linear.x == 0.5, "full speed")
        wait_until(lambda: twists[-1].linear.x == 0.0, "standstill after the release", 5)
        typist.hold(b"\x1b[D", lambda: twists[-1].angular.z == 0.5, "turn by an arrow key")
        typist.type(b"q")
        assert typist.process.wait(20) == 0
        wait_until(lambda: b"ended with 0" in typist.screen, "exit code")
        wait_until(lambda: twists[-1].angular.z == 0.0, "last word to stop")
        assert termios.tcgetattr(typist.slave) == typist.before
        before, after = re.findall(rb"^[0-9a-f]+(?::[0-9a-f]+){10,}", typist.screen, re.MULTILINE)
        assert before == after


def test_a_lost_connection_stops_the_camera_and_ends_teleop_with_3(ssh, listener, tmp_path):
    """Closed, as where the client ends; or nothing comes any more, as where Wi-Fi is lost."""

    def driving(lost: str):
        teleop = shlex.join(teleop_command(f"/{lost}", linear_acceleration=100.0))
        # The shell outlives the terminal, to tell how teleop ended.
        return typing_at(
            [*ssh, "-tt", "robot", f"trap : HUP; {teleop}; echo $? > {tmp_path / lost}"]
        )

    def exit_code(lost: str) -> str:
        return (tmp_path / lost).read_text() if (tmp_path / lost).exists() else ""

    heard = {lost: listener.listen(Twist, f"/{lost}/cmd_vel") for lost in ("closed", "silent")}

    def forward(lost: str) -> bool:
        return bool(heard[lost]) and heard[lost][-1].linear.x == 0.5

    with driving("closed") as closed, driving("silent") as silent:
        closed.hold(b"w", lambda: forward("closed"), "full speed")
        closed.process.kill()
        wait_until(lambda: not forward("closed"), "standstill", 3)
        silent.hold(b"w", lambda: forward("silent"), "full speed")
        silent.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: not forward("silent"), "standstill", 3)
        assert not exit_code("silent")  # the server does not know yet; that no key came was enough
        for lost in heard:
            wait_until(lambda lost=lost: exit_code(lost) == "3\n", f"end of teleop, {lost}", 15)
            assert heard[lost][-1].linear.x == 0.0


def test_without_a_terminal_ssh_gives_the_line_and_exit_code_3(ssh):
    done = subprocess.run(
        [*ssh, "robot", shlex.join(teleop_command("/no_terminal"))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "run it in one (over SSH: ssh -t)" in done.stderr


def test_the_page_is_used_through_a_forwarded_port(ssh):
    async def use(address: str) -> str:
        async with aiohttp.ClientSession() as session:
            async with session.get(address) as page:
                assert page.status == 200
            # From the page as a browser has it: of the forwarded port.
            headers = {"Origin": address}
            async with session.ws_connect(f"{address}/socket", headers=headers) as opened:
                return (await Socket(opened).receive("hello"))["type"]

    port = free_port()
    with running_web("/forwarded") as web:
        there = web.address.removeprefix("http://").rstrip("/")
        # -N: no shell beside it.
        client = subprocess.Popen([*ssh, "-N", "-L", f"{port}:{there}", "robot"])
        try:
            wait_until(lambda: reachable(port), "forwarded port", 20)
            assert asyncio.run(use(f"http://127.0.0.1:{port}")) == "hello"
        finally:
            client.terminate()
            client.wait(10)
