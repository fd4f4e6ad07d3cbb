# SPDX-License-Identifier: Apache-2.0
"""Starts this package's programs out of one process that has imported what takes long to import.

PyTorch and its libraries take ten seconds of a core to import, which each simulator and each
documented command would pay again. Run as a program it reads lines of JSON, and forks for each:
the child runs the entry point with the arguments, as the installed script does, a Python file or
module, or another program, in a session of its own.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path


class Started:
    """A program that runs; its output is in ``log``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "log"
        self.pid = int(self._read("pid", 120))  # the first waits for the imports

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return not (self._folder / "code").exists()

    def interrupt(self, timeout: float = 30) -> int:
        """End it as Ctrl-C does, and return its exit code."""
        if self.running:
            os.kill(self.pid, signal.SIGINT)
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """Return its exit code, below 0 the signal that ended it."""
        return int(self._read("code", timeout))

    def kill(self) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(10)

    def _read(self, name: str, timeout: float) -> str:
        end = time.monotonic() + timeout
        while not (self._folder / name).exists():
            assert time.monotonic() < end, f"no {name} after {timeout} s:\n{self.output()}"
            time.sleep(0.02)
        return (self._folder / name).read_text()


class Starter:
    """Starts programs by their names; to be closed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._folder, self._count = folder, 0
        self._started: list[Started] = []
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, text=True, env=environment
        )

    def start(
        self,
        words: list[str],
        cwd: Path,
        terminal: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """Start a program with its arguments, where given with a terminal for input and output.

        ``environment`` takes the place of the starter's own, as far as an import has not read it.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir(parents=True)
        (folder / "log").touch()
        order = {
            "words": words, "cwd": str(cwd), "folder": str(folder), "terminal": terminal,
            "environment": dict(environment or self.environment),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._started.append(Started(folder))
        return self._started[-1]

    def close(self) -> None:
        for program in self._started:
            program.kill()
        self._process.stdin.close()
        self._process.wait(30)


def write(folder: Path, name: str, number: int) -> None:
    """Write a file that is there only when it is whole."""
    (folder / f"{name}.part").write_text(str(number))
    (folder / f"{name}.part").rename(folder / name)


def watch(order: dict) -> None:
    """Fork the program, and say when it has ended; returns in the program's own process."""
    folder = Path(order["folder"])
    child = os.fork()
    if child:
        write(folder, "pid", child)
        _, status = os.waitpid(child, 0)
        write(folder, "code", os.waitstatus_to_exitcode(status))
        os._exit(0)
    os.setsid()
    terminal = order["terminal"]
    source = os.open(terminal or os.devnull, os.O_RDWR)
    target = source if terminal else os.open(folder / "log", os.O_WRONLY | os.O_APPEND)
    for number, file in ((0, source), (1, target), (2, target)):
        os.dup2(file, number)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])


def serve() -> list[str]:
    """Fork for every line; returns in each program's own process, with its words."""
    import hydra_model.checkpoints
    import hydra_model.world  # noqa: F401

    gc.freeze()  # else each program would copy all of it, as it looks for what is not needed
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := sys.stdin.readline():
        order = json.loads(line)
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            watch(order)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return order["words"]
    sys.exit(0)


if __name__ == "__main__":
    sys.argv = serve()
    if sys.argv[:2] == ["python", "-m"]:
        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    elif sys.argv[0] == "python":
        sys.argv = sys.argv[1:]
        sys.path.insert(0, str(Path(sys.argv[0]).absolute().parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
    elif programs := metadata.entry_points(group="console_scripts", name=sys.argv[0]):
        (program,) = programs
        sys.exit(program.load()())
    else:
        os.execvp(sys.argv[0], sys.argv)
