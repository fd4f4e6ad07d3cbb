# SPDX-License-Identifier: Apache-2.0
"""Serialised messages -> a bag folder of one MCAP file and the metadata of rosbag2."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml
from mcap.writer import Writer

from hydra_ros.recording.schemas import message_definition

METADATA = "metadata.yaml"
VERSION = 9  # of rosbag2's metadata; that of ROS 2 Jazzy
CHUNK = 1 << 20  # bytes; a process that is killed loses one chunk at most


@dataclass(frozen=True)
class _Channel:
    id: int
    topic: str
    type: str
    type_hash: str


class BagWriter:
    """Writes a bag into a new folder; a context manager, which leaves no bag without messages.

    Messages are compressed in chunks of 1 MiB (zstd), each whole in itself, and the definitions
    of their types are in the file.

    Raises:
        ValueError: the folder exists.
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists():
            raise ValueError(f"{folder} exists already; give another --output")
        folder.mkdir(parents=True)
        self.folder = folder
        self._path = folder / f"{folder.name}_0.mcap"
        self._stream = self._path.open("wb")
        self._writer = Writer(self._stream, chunk_size=CHUNK)
        self._writer.start(profile="ros2", library="hydra_ros")
        self._schemas: dict[str, int] = {}
        self._channels: dict[tuple[str, str], _Channel] = {}
        self._counts: Counter[int] = Counter()
        self._first = self._last = 0  # ns

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        if not self._counts:  # an empty folder would only be in the way of the next attempt
            self._path.unlink()
            (self.folder / METADATA).unlink()
            self.folder.rmdir()

    @property
    def counts(self) -> dict[str, int]:
        """Messages so far, by topic."""
        counts: Counter[str] = Counter()
        for channel in self._channels.values():
            counts[channel.topic] += self._counts[channel.id]
        return dict(counts)

    def write(
        self, topic: str, type_name: str, data: bytes, stamp: int, *, type_hash: str = ""
    ) -> None:
        """Add a serialised message (CDR) that came at ``stamp`` nanoseconds.

        Raises:
            LookupError: the definition of the type is not installed.
        """
        channel = self._channel(topic, type_name, type_hash)
        self._counts[channel.id] += 1
        self._first = stamp if self._first == 0 else min(self._first, stamp)
        self._last = max(self._last, stamp)
        self._writer.add_message(
            channel.id, log_time=stamp, data=data, publish_time=stamp,
            sequence=self._counts[channel.id],
        )  # fmt: skip

    def close(self) -> None:
        """Write what is outstanding, the index and the metadata."""
        if self._stream.closed:
            return
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        text = yaml.safe_dump(self._metadata(), sort_keys=False)
        (self.folder / METADATA).write_text(text, encoding="utf-8")

    def _channel(self, topic: str, type_name: str, type_hash: str) -> _Channel:
        known = self._channels.get((topic, type_name))
        if known:
            return known
        if type_name not in self._schemas:
            text = message_definition(type_name).encode()
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
        number = self._writer.register_channel(
            topic, "cdr", self._schemas[type_name], {"offered_qos_profiles": ""}
        )
        channel = _Channel(number, topic, type_name, type_hash)
        self._channels[topic, type_name] = channel
        return channel

    def _metadata(self) -> dict:
        def times() -> dict:  # anew each time: YAML would make the second a reference
            return {
                "starting_time": {"nanoseconds_since_epoch": self._first},
                "duration": {"nanoseconds": self._last - self._first},
                "message_count": sum(self._counts.values()),
            }

        topics = [
            {
                "topic_metadata": {
                    "name": channel.topic,
                    "type": channel.type,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": [],
                    "type_description_hash": channel.type_hash,
                },
                "message_count": self._counts[channel.id],
            }
            for channel in self._channels.values()
        ]
        information = {
            "version": VERSION,
            "storage_identifier": "mcap",
            **times(),
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._path.name],
            "files": [{"path": self._path.name, **times()}],
            "custom_data": None,
            "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
        }
        return {"rosbag2_bagfile_information": information}
