# SPDX-License-Identifier: Apache-2.0
"""What has come when the end of a recording is asked for is in it, over DDS between contexts."""

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile
from std_msgs.msg import String
from system.simulator import wait_until

from hydra_ros.cli.record import take_waiting
from hydra_ros.recording.recorder import Recorder
from hydra_ros.recording.writer import BagWriter

MESSAGES = 50


@pytest.fixture
def nodes():
    contexts = [rclpy.Context(), rclpy.Context()]
    for context in contexts:
        rclpy.init(args=[], context=context)
    yield [rclpy.create_node(f"late_{i}", context=context) for i, context in enumerate(contexts)]
    for context in contexts:
        rclpy.shutdown(context=context)


def test_messages_that_wait_when_the_end_is_asked_for_are_written(nodes, tmp_path):
    speaker, listener = nodes
    publisher = speaker.create_publisher(
        String, "late", QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=MESSAGES)
    )
    executor = SingleThreadedExecutor(context=listener.context)
    executor.add_node(listener)
    with BagWriter(tmp_path / "run") as writer:
        recorder = Recorder(listener, writer, ("late",))
        wait_until(lambda: recorder.look() or recorder.topics == ["/late"], "topic")
        wait_until(publisher.get_subscription_count, "recorder")
        for number in range(MESSAGES):
            publisher.publish(String(data=str(number)))
        assert publisher.wait_for_all_acked()
        assert writer.counts == {}
        take_waiting(executor, writer)
        assert writer.counts == {"/late": MESSAGES}
