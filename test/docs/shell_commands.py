# SPDX-License-Identifier: Apache-2.0
"""Commands in documents: found, taken apart, and checked against what they call."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from hydra_ros.cli import main as cli
from hydra_ros.parameters import Parameter, table
from hydra_ros.teleop.parameters import TeleopSettings

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELL = ("", "bash", "sh")
_OPERATORS = {"&&", "||", ";", "|", "&", ">", ">>"}

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

# Commands that are not ours, which a document may use.
OTHERS = {
    ".", "cd", "colcon", "cp", "docker", "export", "foxglove-studio", "git", "ls", "mkdir", "pip",
    "rosdep", "rviz2", "source", "ssh", "sudo", "touch", "unzip", "wget",
}  # fmt: skip
# Topics and nodes of others that commands may name.
TOPICS = {
    "/camera/image_raw", "/camera/image_raw/compressed", "/camera/camera_info", "/camera/pose",
    "/diagnostics", "/memory", "/memory/markers", "/pose_cmd", "/path_cmd", "/cmd_vel", "/clock",
    "/tf", "/joy",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A block of shell commands in a document."""

    document: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return the shell blocks of a document: fences with bash, sh, or no language."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(document, text.count("\n", 0, match.start()) + 1, match.group(2))
        for match in _FENCE.finditer(text)
        if match.group(1) in _SHELL
    ]


def commands(block: Block) -> list[list[str]]:
    """Return the words of every command of a block, without comments and assignments before it."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in _OPERATORS:
                words.append(word)
                continue
            while words and re.match(r"^[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                found.append(words)
            words = []
    return found


def documented() -> dict[str, list[str]]:
    """Return the words of every documented command, by its text."""
    found = (
        words for document in DOCUMENTS for block in blocks(document) for words in commands(block)
    )
    return {" ".join(words): words for words in found}


def problem(words: list[str]) -> str | None:
    """Return what is wrong with a command, None where it calls what exists."""
    name, *rest = words
    if name == "ros2":
        return _ros2(rest)
    if name == "hydra-ros":
        return _hydra_ros(rest)
    if name in _executables():
        return _node(name, rest)
    if name == "make":
        return _make(rest)
    if name in ("python", "python3"):
        return _python(rest)
    if name in ("bash", "sh"):
        return None if (ROOT / rest[0]).is_file() else f"there is no script {rest[0]!r}"
    return None if name in OTHERS else f"nothing is known of the command {name!r}"


def _executables() -> set[str]:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return set(re.findall(r"install_executable\((\S+)", cmake))


def _hydra_ros(words: list[str]) -> str | None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
        try:
            cli._build_parser(words).parse_args(words)
        except SystemExit as ended:
            if ended.code:
                return errors.getvalue().strip().splitlines()[-1]
    return None


def _parameters(node: str) -> dict[str, Parameter] | None:
    tables = {"hydra_simulator": table(), "hydra_teleop": table(TeleopSettings)}
    if node not in tables:
        return None
    return {line.name: line for line in tables[node]}


def _value_problem(line: Parameter, text: str) -> str | None:
    value = yaml.safe_load(text)
    if isinstance(line.default, float) and isinstance(value, int):
        value = float(value)
    if type(value) is not type(line.default):
        return f"{line.name} is a {line.type_name}; {text!r} is not"
    return line.check(value)


def _node(name: str, words: list[str]) -> str | None:
    known = _parameters(name)
    if known is None:
        return None
    for before, word in itertools.pairwise(words):
        if before != "-p":
            continue
        key, _, text = word.partition(":=")
        if key in ("use_sim_time",):
            continue
        if key not in known:
            return f"{name} has no parameter {key!r}"
        wrong = _value_problem(known[key], text)
        if wrong:
            return wrong
    return None


def _ros2(words: list[str]) -> str | None:
    verb, *rest = words
    if verb == "run":
        return _ros2_run(rest)
    if verb == "launch":
        return _ros2_launch(rest)
    if verb == "topic":
        topics = [word for word in rest[1:] if word.startswith("/")]
        unknown = [topic for topic in topics if topic not in TOPICS]
        return f"nothing publishes {unknown}" if unknown else None
    if verb == "service":
        return _ros2_call(rest, "srv")
    if verb == "action":
        return _ros2_call(rest, "action")
    if verb == "param":
        return _ros2_param(rest)
    return None if verb in ("bag", "lifecycle", "node", "interface", "doctor") else f"ros2 {verb}?"


def _ros2_run(words: list[str]) -> str | None:
    package, executable, *rest = words
    if package != "hydra_ros":
        return None
    if executable not in _executables():
        return f"hydra_ros has no executable {executable!r}"
    return _node(executable, rest)


def _ros2_launch(words: list[str]) -> str | None:
    package, name, *rest = words
    if package != "hydra_ros":
        return None
    path = ROOT / "launch" / name
    if not path.is_file():
        return f"hydra_ros has no launch file {name!r}"
    known = launch_arguments(path)
    for word in rest:
        key, given, text = word.partition(":=")
        if not given:
            continue
        if key not in known:
            return f"{name} has no argument {key!r}"
        line = known[key]
        if line is not None and text:
            try:
                line.parse(text)
            except ValueError as error:
                return str(error)
    return None


def launch_arguments(path: Path) -> dict[str, Parameter | None]:
    """Return the arguments of a launch file, with the parameter each sets, if it sets one."""
    source = path.read_text(encoding="utf-8")
    names: dict[str, Parameter | None] = {}
    for node in ast.walk(ast.parse(source)):
        # A line of the table ARGUMENTS, or a declaration with the name in it.
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ARGUMENTS":
            names.update({entry[0]: None for entry in ast.literal_eval(node.value)})
        if (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "DeclareLaunchArgument"
            and isinstance(node.args[0], ast.Constant)
        ):
            names[node.args[0].value] = None
    if "table(TeleopSettings)" in source:
        names.update(_parameters("hydra_teleop") or {})
    elif "table()" in source:
        names.update(_parameters("hydra_simulator") or {})
    return names


def _ros2_call(words: list[str], folder: str) -> str | None:
    """Check `ros2 service call NAME TYPE VALUES` and `ros2 action send_goal NAME TYPE VALUES`."""
    if words[0] not in ("call", "send_goal"):
        return None
    kind, values = words[2], yaml.safe_load(words[3]) if len(words) > 3 else {}
    package, _, rest = kind.partition("/")
    if package != "hydra_ros":
        return None
    path = ROOT / f"{rest}.{folder}"
    if not path.is_file():
        return f"hydra_ros has no {folder} {kind!r}"
    request = path.read_text(encoding="utf-8").split("\n---")[0]
    fields = set(re.findall(r"^[\w/]+(?:\[\d*\])?\s+([a-z]\w*)\s*(?:#.*)?$", request, re.MULTILINE))
    unknown = set(values or {}) - fields
    return f"{kind} has no field {sorted(unknown)}" if unknown else None


def _ros2_param(words: list[str]) -> str | None:
    if words[0] not in ("set", "get"):
        return None
    known = _parameters(words[1].rsplit("/", 1)[-1])
    if known is None:
        return f"nothing is known of the node {words[1]!r}"
    if words[2] not in known:
        return f"{words[1]} has no parameter {words[2]!r}"
    line = known[words[2]]
    if words[0] == "get":
        return None
    if line.read_only:
        return f"{words[2]} is fixed at start"
    return _value_problem(line, words[3])


def _make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    wanted = [word for word in words if "=" not in word and not word.startswith("-")]
    unknown = [word for word in wanted if word not in targets]
    return f"make has no target {unknown}" if unknown else None


def _python(words: list[str]) -> str | None:
    if "-m" in words:
        module = words[words.index("-m") + 1]
        try:
            there = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            there = False
        return None if there else f"there is no module {module!r}"
    scripts = [word for word in words if word.endswith(".py")]
    missing = [script for script in scripts if not (ROOT / script).is_file()]
    return f"there is no file {missing}" if missing else None
