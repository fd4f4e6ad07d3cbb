# SPDX-License-Identifier: Apache-2.0
"""The example planner, with pictures whose truth the test knows."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(
        "image_goal_navigation", EXAMPLES / "image_goal_navigation.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def panorama(pose: np.ndarray) -> np.ndarray:
    """What a camera sees of smooth hills of colour all around: near ones grow as it moves."""
    yaw = np.arctan2(pose[1, 0], pose[0, 0])
    columns = yaw + np.linspace(0.6, -0.6, 80) * (1 - 0.4 * pose[0, 3])
    colours = [np.sin(columns), np.sin(2 * columns + 1), np.cos(columns)]
    row = 127 + 100 * np.stack(colours, -1)
    return np.repeat(row[None], 48, 0).astype(np.uint8)


def imagine(paths):
    """What the panorama's camera sees along paths, all of it."""
    camera = np.array([[40 / np.tan(0.6), 0, 39.5], [0, 40 / np.tan(0.6), 23.5], [0, 0, 1]])
    return [
        SimpleNamespace(
            frames=np.stack([panorama(pose) for pose in path]),
            indices=np.arange(len(path)),
            intrinsics=camera,
        )
        for path in paths
    ]


def test_the_plan_ends_where_the_goal_was_seen(example):
    planner = example.Planner()
    goal = planner.path(np.eye(4), np.array([[0.5, 0.3], [0.4, 0.5]]))[-1]
    plan = planner.plan(imagine, np.eye(4), panorama(goal), np.random.default_rng(0))
    end = plan.path[-1]
    assert np.arccos((np.trace(end[:3, :3].T @ goal[:3, :3]) - 1) / 2) < np.radians(10)
    assert abs(end[0, 3] - goal[0, 3]) < 0.15


def test_where_the_goal_is_seen_already_it_stays(example):
    random = np.random.default_rng(0)
    plan = example.Planner().plan(imagine, np.eye(4), panorama(np.eye(4)), random)
    assert plan.cost < 1 and not plan.actions.any()


def test_one_look_beside_the_goal_tells_how_far_to_turn(example):
    planner = example.Planner(candidates=4, iterations=2, legs=1)
    goal = planner.path(np.eye(4), np.array([[0.0, 0.35]]))[-1]
    asked = []

    def counted(paths):
        asked.append(paths)
        return imagine(paths)

    planner.plan(counted, np.eye(4), panorama(goal), np.random.default_rng(1))
    facing = [path[-1][:3, 0] @ goal[:3, 0] for path in asked[1]]
    assert np.degrees(np.arccos(max(facing))) < 3  # one of four is there at the second look


def test_a_path_that_passes_the_goal_ends_there(example):
    planner = example.Planner()
    actions = np.array([[0.5, 0.3], [0.4, -0.2]])
    path = planner.path(np.eye(4), actions)
    for frames in (5, 17, 25, 33):
        ended = planner.path(np.eye(4), planner._ended(actions, frames))
        np.testing.assert_allclose(ended[-1], path[frames - 1], atol=2e-3)


def test_the_planner_knows_nothing_of_the_model():
    tree = ast.parse((EXAMPLES / "image_goal_navigation.py").read_text(encoding="utf-8"))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.startswith(("hydra_model", "torch"))]
