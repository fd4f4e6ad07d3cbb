# SPDX-License-Identifier: Apache-2.0
"""The documents agree with the code: parameters, interface names and links."""

import re
from pathlib import Path

import pytest

from hydra_ros import parameters
from hydra_ros.teleop.keys import HELP
from hydra_ros.teleop.parameters import TeleopSettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "model" / "weights" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_table_of_parameters_is_the_generated_one():
    text = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    table = re.search(
        r"<!-- parameters: begin [^\n]*-->\n(.*?)<!-- parameters: end -->", text, re.DOTALL
    )
    assert table, "docs/parameters.md has lost the marks around its table of parameters"
    # To renew it: python -m hydra_ros.parameters
    assert table.group(1) == parameters.as_markdown()


def test_the_table_of_teleop_parameters_is_the_generated_one():
    text = (ROOT / "docs" / "driving.md").read_text(encoding="utf-8")
    table = re.search(
        r"<!-- teleop parameters: begin [^\n]*-->\n(.*?)<!-- teleop parameters: end -->",
        text,
        re.DOTALL,
    )
    # To renew it: python -m hydra_ros.teleop.parameters
    assert table.group(1) == parameters.as_markdown(TeleopSettings)


def test_the_keys_of_teleop_are_shown_as_they_are():
    text = (ROOT / "docs" / "driving.md").read_text(encoding="utf-8")
    assert f"```text\n{HELP}\n```" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []
