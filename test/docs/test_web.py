# SPDX-License-Identifier: Apache-2.0
"""docs/web.md agrees with the options, the limits and the keys of the page."""

import re
import shlex
from pathlib import Path

from hydra_ros.web import browser, main, protocol, server

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "web.md").read_text(encoding="utf-8")


def test_every_option_is_in_the_table_with_its_default_and_meaning(monkeypatch):
    monkeypatch.delenv(main.TOKEN_VARIABLE, raising=False)
    rows = re.findall(r"^\| `(--[\w-]+)` \| (.*?) ?\| (.*) \|$", TEXT, re.MULTILINE)
    actions = [action for action in main.build_parser()._actions if action.dest != "help"]
    assert rows == [
        (
            action.option_strings[0],
            f"`{action.default}`" if action.default != "" else "",
            action.help,
        )
        for action in actions
    ]


def test_every_command_has_options_that_are_there():
    lines = re.findall(r"^(?:ros2 run hydra_ros )?hydra_web\b(.*)$", TEXT, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        main.build_parser().parse_args(shlex.split(line, comments=True))


def test_the_limits_are_those_of_the_server():
    for words in (
        f"more than {browser.MESSAGES_PER_SECOND} messages a second",
        f"{protocol.MAX_MESSAGE // 1024} KiB",
        f"{browser.STALLED} stalled",
        f"At most {server.MAX_BROWSERS} browsers",
        f"{main.WRONG_INPUT} for wrong arguments",
        f"{main.CANNOT_LISTEN} for an address",
    ):
        assert words in " ".join(TEXT.split()), words


def test_every_key_that_drives_is_named():
    script = (ROOT / "hydra_ros" / "web" / "static" / "drive.js").read_text(encoding="utf-8")
    letters = re.findall(r"Key([A-Z]): \[", script)
    assert sorted(letters) == sorted("WASDQE")
    help_text = (ROOT / "hydra_ros" / "web" / "static" / "index.html").read_text(encoding="utf-8")
    for letter in letters:
        assert f"<kbd>{letter}</kbd>" in TEXT
        assert f"<kbd>{letter}</kbd>" in help_text
