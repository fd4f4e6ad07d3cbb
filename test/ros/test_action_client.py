# SPDX-License-Identifier: Apache-2.0
"""Answers and feedback at awkward moments, over real DDS between two contexts."""

import time

import pytest
from rclpy.action import ActionServer

from hydra_ros.action import Rollout
from hydra_ros.action_client import ActionClient
from hydra_ros.node_spinner import NodeSpinner

NAME = "prompt_answers/rollout"
FEEDBACK = 8  # fewer than the ten that are kept


class SlowToReturn:
    """A client handle whose sending returns long after the answer came."""

    def __init__(self, handle):
        self._handle = handle

    def __getattr__(self, name):
        found = getattr(self._handle, name)
        if not name.startswith("send_"):
            return found

        def send(request):
            number = found(request)
            time.sleep(0.5)
            return number

        return send


@pytest.fixture
def client():
    def execute(goal):
        for count in range(FEEDBACK):
            goal.publish_feedback(Rollout.Feedback(frames_done=count))
        goal.succeed()
        return Rollout.Result(message="done")

    server, user = NodeSpinner("prompt_server"), NodeSpinner("prompt_user")
    action = ActionServer(server.node, Rollout, NAME, execute)
    client = ActionClient(user.node, Rollout, NAME)
    assert client.wait_for_server(30)
    yield client
    user.close(client.destroy)
    server.close(action.destroy)


def finished(future, seconds=20):
    end = time.monotonic() + seconds
    while not future.done() and time.monotonic() < end:
        time.sleep(0.01)
    assert future.done(), "the answer was lost"
    return future.result()


def test_an_answer_that_comes_before_its_request_is_noted_is_not_lost(client):
    client._client_handle = SlowToReturn(client._client_handle)
    goal = finished(client.send_goal_async(Rollout.Goal()))
    assert goal.accepted
    assert finished(goal.get_result_async()).result.message == "done"
    assert not finished(goal.cancel_goal_async()).goals_canceling


def test_feedback_that_waits_together_with_the_result_is_not_lost(client):
    told = []

    def tell(message):
        told.append(message.feedback.frames_done)
        time.sleep(0.5 if len(told) == 1 else 0.0)  # all the rest comes meanwhile

    goal = finished(client.send_goal_async(Rollout.Goal(), feedback_callback=tell))
    finished(goal.get_result_async())
    assert told == list(range(FEEDBACK))
