# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hydra_ros.state_store import SavedState, StateError, StateFacts, StateStore, default_folder


def write(folder: Path, snapshot: SimpleNamespace) -> None:
    folder.mkdir()
    (folder / "tensors").write_text(snapshot.tensors)


def read(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(tensors=(folder / "tensors").read_text())


def open_store(folder: Path, write=write) -> StateStore:
    return StateStore(folder, write, read)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "states")


def state(name: str = "start", tensors: str = "latents", **changes) -> SavedState:
    facts = StateFacts(
        name=name, time=2.5, memory_frames=20, memory_bytes=1000, pose=np.eye(4), model="small",
        world="procedural world 3", saved_at=1, persistent=False,
    )  # fmt: skip
    return SavedState(
        facts=dataclasses.replace(facts, **changes), snapshot=SimpleNamespace(tensors=tensors)
    )


def on_disk(name: str = "start", tensors: str = "latents", **changes) -> SavedState:
    return state(name, tensors, persistent=True, **changes)


def names(store: StateStore) -> list[str]:
    return [facts.name for facts in store.list()]


def test_a_state_in_memory_is_the_snapshot_itself_and_leaves_nothing_on_disk(store):
    kept = state()
    store.save(kept)
    assert store.load("start").snapshot is kept.snapshot
    assert not store.folder.exists()


def test_a_persistent_state_is_there_after_a_restart(store):
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    store.save(on_disk(pose=pose))
    again = open_store(store.folder)
    loaded = again.load("start")
    assert loaded.snapshot.tensors == "latents"
    assert loaded.facts.time == 2.5 and loaded.facts.world == "procedural world 3"
    assert loaded.facts.persistent
    np.testing.assert_array_equal(loaded.pose, pose)


def test_states_are_listed_oldest_first_wherever_they_are(store):
    open_store(store.folder).save(on_disk("second", saved_at=20))
    store.save(state("third", saved_at=30))
    store.save(on_disk("first", saved_at=10))
    assert names(store) == ["first", "second", "third"]


def test_a_name_is_taken_until_overwrite_is_set(store):
    store.save(state(tensors="old"))
    with pytest.raises(StateError, match="there is a state 'start' already; set overwrite"):
        store.save(state(tensors="new"))
    store.save(state(tensors="new"), overwrite=True)
    assert store.load("start").snapshot.tensors == "new"
    open_store(store.folder).save(on_disk("kept"))
    with pytest.raises(StateError, match="already"):
        store.save(state("kept"))


def test_a_persistent_state_is_replaced_whole(store):
    store.save(on_disk(tensors="old"))
    store.save(on_disk(tensors="new"), overwrite=True)
    assert open_store(store.folder).load("start").snapshot.tensors == "new"
    store.save(state(tensors="in memory"), overwrite=True)
    assert names(open_store(store.folder)) == []


def test_deleting_forgets_it_in_memory_and_on_disk(store):
    store.save(on_disk())
    store.delete("start")
    assert names(store) == []
    assert list(store.folder.iterdir()) == []
    with pytest.raises(StateError, match="there is no state 'start'; there is none"):
        store.delete("start")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "../up", "/etc/passwd", "a/b", "a\\b", "a\0b", "a b", "ä", "a\n",
     "x" * 65],
)  # fmt: skip
def test_a_name_that_could_be_a_path_is_refused_and_leaves_no_file(store, name):
    for refused in (
        lambda: store.save(on_disk(name)),
        lambda: store.load(name),
        lambda: store.delete(name),
    ):
        with pytest.raises(StateError, match="letters, digits"):
            refused()
    assert list(store.folder.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "-", "x" * 64])
def test_plain_names_are_accepted(store, name):
    store.save(on_disk(name))
    assert names(open_store(store.folder)) == [name]


def test_an_unknown_state_is_refused_with_the_names_of_those_that_are(store):
    store.save(state("one"))
    with pytest.raises(StateError, match="there is no state 'two'; there is one"):
        store.load("two")


# --- What else may lie in the folder ---


def test_junk_in_the_folder_is_no_state_and_is_left_alone(store):
    store.save(on_disk())
    outside = store.folder.parent / "outside"
    open_store(outside).save(on_disk("start"))
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "pictures").mkdir()
    (store.folder / "link").symlink_to(outside / "start")
    (store.folder / "dangling").symlink_to(outside / "nothing")
    again = open_store(store.folder)
    assert names(again) == ["start"]
    with pytest.raises(StateError, match="symbolic link"):
        again.load("link")
    for name in ("notes.txt", "pictures", "link", "dangling"):
        with pytest.raises(StateError):
            again.load(name)
        with pytest.raises(StateError, match="is no state; it is left as it is"):
            again.save(on_disk(name), overwrite=True)
        with pytest.raises(StateError, match="is no state; it is left as it is"):
            again.delete(name)
    assert (outside / "start" / "about.json").exists()


def test_a_link_inside_a_state_is_refused(store):
    store.save(on_disk())
    secret = store.folder.parent / "secret"
    secret.write_text("secret")
    tensors = store.folder / "start" / "world" / "tensors"
    tensors.unlink()
    tensors.symlink_to(secret)
    with pytest.raises(StateError, match="symbolic link"):
        open_store(store.folder).load("start")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("about.json", None, "not a whole state"),
        ("about.json", '{"format": 1, "ti', "not a whole state"),
        ("about.json", json.dumps({"format": 9}), "its format is 9, accepted is 1"),
        ("world/tensors", None, "state 'start' cannot be used"),
    ],
)
def test_a_half_written_state_is_refused_and_can_be_deleted(store, file, text, words):
    store.save(on_disk())
    path = store.folder / "start" / file
    path.unlink() if text is None else path.write_text(text)
    again = open_store(store.folder)
    with pytest.raises(StateError, match=words):
        again.load("start")
    again.delete("start")
    assert list(store.folder.iterdir()) == []


def test_a_write_that_was_cut_off_is_no_state(store):
    store.save(on_disk())
    (store.folder / "start").rename(store.folder / ".start.partial")
    again = open_store(store.folder)
    assert names(again) == []
    again.save(on_disk(tensors="new"))
    assert again.load("start").snapshot.tensors == "new"
    assert [path.name for path in store.folder.iterdir()] == ["start"]


def test_a_replacement_that_was_cut_off_leaves_the_old_state(store):
    store.save(on_disk())
    (store.folder / "start").rename(store.folder / ".start.old")
    assert names(open_store(store.folder)) == ["start"]


def test_a_full_disk_is_an_error_that_leaves_the_old_state(store):
    def write_to_full_disk(folder: Path, snapshot: object) -> None:
        folder.mkdir()
        (folder / "tensors").symlink_to("/dev/full")
        (folder / "tensors").write_text("latents")

    store.save(on_disk())
    full = open_store(store.folder, write_to_full_disk)
    with pytest.raises(StateError, match=r"state 'start' cannot be written.* No space left"):
        full.save(on_disk(), overwrite=True)
    with pytest.raises(StateError, match="No space left"):
        full.save(on_disk("other"))
    assert names(full) == ["start"]
    assert open_store(store.folder).load("start").snapshot.tensors == "latents"
    assert [path.name for path in store.folder.iterdir()] == ["start"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        open_store(tmp_path / "file" / "states").save(on_disk())


def test_the_default_folder_is_in_the_home_of_ros():
    assert default_folder({"ROS_HOME": "/data"}) == Path("/data/hydra_ros/states")
    assert default_folder({}) == Path.home() / ".ros/hydra_ros/states"
