# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import yaml

from hydra_model.procedural import FAMILIES
from hydra_ros import parameters
from hydra_ros.environment import share_folder
from hydra_ros.parameters import ParameterError, Settings


def test_every_parameter_is_described_and_its_default_accepted():
    for line in parameters.table():
        assert line.description, line.name
        assert line.check(line.default) is None


def test_the_default_file_is_what_the_table_says():
    file = share_folder("config", "default.yaml")
    values = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert values == dataclasses.asdict(Settings())
    for name, value in values.items():
        assert type(value) is type(getattr(Settings(), name)), name
    assert file.read_text() == parameters.as_yaml(), "python -m hydra_ros.parameters --yaml"


def test_the_markdown_table_has_a_row_for_every_parameter():
    rows = parameters.as_markdown().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [line.name for line in parameters.table()]
    assert all(row.count("|") == 7 for row in rows)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("mode", "fast", "accepted: lockstep, realtime"),
        ("procedural_family", "moon", "accepted: look_away, sinusoid"),
        ("chunk_frames", 16, "accepted: 0 or 1"),
        ("jpeg_quality", 0, "accepted: 1 to 100"),
        ("playback_speed", -1.0, "accepted: 0.0 to"),
    ],
)
def test_a_value_out_of_range_is_refused(name, value, words):
    line = next(line for line in parameters.table() if line.name == name)
    assert words in line.check(value)


def test_the_kinds_of_procedural_world_are_those_that_there_are():
    line = next(line for line in parameters.table() if line.name == "procedural_family")
    assert line.choices == FAMILIES


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ({"camera_frame": "map"}, "camera_frame is 'map', .*accepted: three names that differ"),
        ({"camera_frame": "camera_optical_frame"}, "accepted: three names that differ"),
        ({"world_frame": ""}, "parameter world_frame is ''; accepted: a frame's name"),
        ({"optical_frame": " "}, "parameter optical_frame is ' '"),
    ],
)
def test_frames_without_a_name_of_their_own_are_refused(frames, words):
    with pytest.raises(ParameterError, match=words):
        Settings(**frames)


@pytest.mark.parametrize("value", [0, 1, 5, 17, 77])
def test_chunks_of_one_and_four_k_frames_are_accepted(value):
    line = next(line for line in parameters.table() if line.name == "chunk_frames")
    assert line.check(value) is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "7", 7),
        ("playback_speed", "2", 2.0),
        ("publish_clock", "True", True),
        ("start_source", "1", "1"),
    ],
)
def test_a_launch_argument_becomes_a_value_of_the_parameters_type(name, text, value):
    line = next(line for line in parameters.table() if line.name == name)
    parsed = line.parse(text)
    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("seed", "abc", "seed is 'abc'; accepted: a number"),
        ("seed", "1.5", "seed is '1.5'; accepted: a number"),
        ("publish_clock", "perhaps", "publish_clock is 'perhaps'; accepted: true, false"),
        ("playback_speed", "nan", "accepted: 0.0 to"),
        ("mode", "fast", "accepted: lockstep, realtime"),
        ("procedural_family", "moon", "accepted: look_away, sinusoid"),
    ],
)
def test_a_launch_argument_that_does_not_fit_is_named(name, text, words):
    line = next(line for line in parameters.table() if line.name == name)
    with pytest.raises(ValueError, match=words):
        line.parse(text)
