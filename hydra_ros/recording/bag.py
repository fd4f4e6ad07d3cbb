# SPDX-License-Identifier: Apache-2.0
"""Bags of any robot -> messages: rosbag2 folders, bare MCAP and SQLite files, ROS 1 bags."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

ENDINGS = (".mcap", ".db3", ".bag")
MCAP_MAGIC = b"\x89MCAP0\r\n"  # the first bytes of each such file


class BagError(ValueError):
    """A bag that cannot be used; the message says what it has, or what is wrong with it."""


class Bag:
    """A bag, open for reading; a context manager.

    An MCAP file that was cut short is read as far as it goes; ``recovered`` then says how many
    messages that is.

    Raises:
        BagError: there is no such bag, it is none, or nothing in it can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recovered: int | None = None
        self._stack = ExitStack()
        try:
            self._reader = self._open(path)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def topics(self) -> dict[str, str]:
        """Type of each topic, such as "geometry_msgs/msg/PoseStamped"."""
        return {connection.topic: connection.msgtype for connection in self._reader.connections}

    def of_type(self, *types: str) -> list[str]:
        """Return the topics that have one of these types."""
        return sorted(topic for topic, kind in self.topics.items() if kind in types)

    def check(self, topic: str, types: tuple[str, ...] = ()) -> None:
        """Look whether there is a topic of one of these types.

        Raises:
            BagError: no such topic, or another type than ``types``.
        """
        if topic not in self.topics:
            raise BagError(f"{self.path} has no topic {topic!r}; it has {self._listed()}")
        for connection in self._reader.connections:
            if types and connection.topic == topic and connection.msgtype not in types:
                raise BagError(
                    f"topic {topic!r} in {self.path} is of type {connection.msgtype}; "
                    f"accepted: {', '.join(types)}; the bag has {self._listed()}"
                )

    def messages(self, topic: str, types: tuple[str, ...] = ()) -> Iterator[tuple[int, Any]]:
        """Yield the time in nanoseconds at which each message of a topic was recorded, and it.

        Messages have the fields of their ROS types; arrays are numpy's.

        Raises:
            BagError: no such topic, another type than ``types``, or unreadable messages.
        """
        self.check(topic, types)
        found = [connection for connection in self._reader.connections if connection.topic == topic]
        try:
            for connection, stamp, data in self._reader.messages(found):
                yield stamp, self._reader.deserialize(data, connection.msgtype)
        except Exception as error:  # the library raises many kinds at broken data
            raise BagError(f"{self.path}: {topic!r} cannot be read: {_line(error)}") from error

    def _listed(self) -> str:
        topics = [f"{topic} ({kind})" for topic, kind in sorted(self.topics.items())]
        return ", ".join(topics) or "no topics"

    def _open(self, path: Path) -> AnyReader:
        files = self._files(path)
        try:
            return self._read(files)
        except Exception as error:
            if any(_begins_as_mcap(file) for file in _inside(path)):
                recovered = self._recovered(_inside(path))
                if recovered:
                    return self._read(recovered)
                raise BagError(f"{path} was cut short: no message in it is whole") from error
            raise BagError(f"{path} cannot be read as a bag: {_line(error)}") from error

    def _read(self, files: list[Path]) -> AnyReader:
        # Bags older than Iron do not hold the definitions of their types.
        reader = AnyReader(files, default_typestore=get_typestore(Stores.LATEST))
        self._stack.enter_context(reader)
        return reader

    def _files(self, path: Path) -> list[Path]:
        if not path.exists():
            raise BagError(f"there is no bag {path}")
        if path.is_dir():
            if (path / "metadata.yaml").is_file():
                return [path]
            if not _inside(path):
                raise BagError(f"{path} is not a bag: it has no metadata.yaml and no bag file")
            return _inside(path)  # rosbag2 was killed before it wrote the metadata
        if path.suffix not in ENDINGS:
            raise BagError(f"{path} is not a bag; accepted: a folder, or {', '.join(ENDINGS)}")
        return [path]

    def _recovered(self, files: list[Path]) -> list[Path]:
        """Copy what can be read of MCAP files that are not whole; [] if that is nothing."""
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hydra_ros_")))
        copies, total = [], 0
        for file in files:
            copy = folder / file.name
            count = recover(file, copy)
            if count:
                copies.append(copy)
                total += count
        self.recovered = total
        return copies


def recover(source: Path, target: Path) -> int:
    """Copy the messages of an MCAP file up to where it breaks off; return their number."""
    count = 0
    schemas: dict[int, int] = {}
    channels: dict[int, int] = {}
    with source.open("rb") as stream, target.open("wb") as out:
        writer = Writer(out)
        writer.start(profile="ros2", library="hydra_ros")
        # Where it breaks off, the library raises whatever the broken bytes lead to.
        with suppress(Exception):
            for record in StreamReader(stream).records:
                if isinstance(record, Schema) and record.id not in schemas:
                    schemas[record.id] = writer.register_schema(
                        record.name, record.encoding, record.data
                    )
                elif isinstance(record, Channel) and record.id not in channels:
                    channels[record.id] = writer.register_channel(
                        record.topic, record.message_encoding, schemas[record.schema_id]
                    )
                elif isinstance(record, Message):
                    writer.add_message(
                        channels[record.channel_id], record.log_time, record.data,
                        record.publish_time, record.sequence,
                    )  # fmt: skip
                    count += 1
        writer.finish()
    return count


def _inside(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in ENDINGS)
    return [path]


def _begins_as_mcap(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(MCAP_MAGIC)) == MCAP_MAGIC


def _line(error: Exception) -> str:
    if isinstance(error, AnyReaderError | OSError) or str(error):
        return " ".join(str(error).split())
    return type(error).__name__
