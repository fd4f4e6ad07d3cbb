# SPDX-License-Identifier: Apache-2.0
"""Messages from browsers: what is one is understood, anything else is refused in one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hydra_ros.web.protocol import (
    Acknowledge,
    Call,
    Cancel,
    Commit,
    Drive,
    Imagine,
    ProtocolError,
    Reset,
    SaveState,
    Velocity,
    pack,
    parse,
    unpack,
)

DRIVE = {"type": "drive", "linear": [0.5, 0, 0], "angular": [0, 0, -1]}
RESET = {"type": "call", "call": "reset", "id": 7, "source": "procedural", "seed": 3}
IMAGINE = {
    "type": "call", "call": "imagine", "id": 8, "seconds": 2,
    "velocities": [{"linear": [0, 0, 0], "angular": [0, 0, 1]}] * 2,
}  # fmt: skip


def test_proper_messages_are_understood():
    assert parse(json.dumps(DRIVE)) == Drive(
        velocity=Velocity(linear=(0.5, 0.0, 0.0), angular=(0.0, 0.0, -1.0))
    )
    assert parse('{"type": "acknowledge", "sequence": 3}') == Acknowledge(sequence=3)
    assert parse(json.dumps(RESET)) == Call(id=7, request=Reset(source="procedural", seed=3))
    assert parse(
        '{"type": "call", "call": "save_state", "id": 1, "name": "a", "overwrite": true, '
        '"persistent": false}'
    ) == Call(id=1, request=SaveState(name="a", overwrite=True, persistent=False))
    turn = Velocity(angular=(0.0, 0.0, 1.0))
    assert parse(json.dumps(IMAGINE)).request == Imagine(velocities=(turn, turn), seconds=2.0)
    commit = '{"type": "call", "call": "commit", "id": 1, "future": "f1"}'
    assert parse(commit).request == Commit(future="f1")
    cancel = '{"type": "call", "call": "cancel", "id": 2, "imagining": 1}'
    assert parse(cancel).request == Cancel(imagining=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[" * 5000, "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("{}", "message has no type"),
        ('{"type": "fly"}', "unknown type 'fly'"),
        ('{"type": "call", "call": "shutdown", "id": 1}', "unknown call 'shutdown'"),
        ('{"type": "call", "call": "cancel", "id": 1}', "message has no imagining"),
        ('{"type": "acknowledge", "sequence": -1}', "sequence is not a whole number"),
        ('{"type": "acknowledge", "sequence": true}', "sequence is not a whole number"),
        (json.dumps({**DRIVE, "linear": [1, 2]}), "linear is not three numbers"),
        (json.dumps({**DRIVE, "linear": [1, 2, "3"]}), "linear is not a number from -1000"),
        (
            json.dumps({**DRIVE, "linear": [float("nan"), 0, 0]}),
            "linear is not a number from -1000 to 1000",
        ),
        (json.dumps({**DRIVE, "linear": [10**400, 0, 0]}), "linear is not a number from"),
        (json.dumps({**DRIVE, "extra": 1}), "message has an unknown field 'extra'"),
        (json.dumps({**RESET, "seed": 2**53}), "seed is not a whole number"),
        (json.dumps({**RESET, "source": "x" * 501}), "source has 501 characters"),
        (json.dumps({**RESET, "source": "a\0b"}), "source holds what is no character"),
        (json.dumps({**RESET, "source": "\ud800"}), "source holds what is no character"),
        (json.dumps({**IMAGINE, "velocities": []}), "velocities is not 1 to 4 objects"),
        (json.dumps({**IMAGINE, "seconds": 1000}), "seconds is not a number from 0.1 to 20"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text, reason):
    with pytest.raises(ProtocolError) as refused:
        parse(text)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(
    base=st.sampled_from([DRIVE, RESET, IMAGINE]),
    changes=st.dictionaries(
        st.sampled_from(["type", "call", "id", "linear", "velocities", "seed", "x"]), VALUES
    ),
)
def test_no_garbage_gets_past_as_another_error(base, changes):
    try:
        parse(json.dumps({**base, **changes}))
    except ProtocolError as error:
        assert len(str(error)) < 1000


def test_packs_come_apart_as_they_were_put_together():
    blobs = [b"one", b"", b"three" * 100]
    header, unpacked = unpack(pack({"type": "frame", "name": "ä"}, blobs))
    assert header == {"type": "frame", "name": "ä", "sizes": [3, 0, 500]}
    assert unpacked == blobs
