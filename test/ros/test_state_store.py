# SPDX-License-Identifier: Apache-2.0
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hydra_model.conditioning import latent_shape
from hydra_model.latent_store import LatentStore
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.state import State
from hydra_model.state_files import load_state, read_facts, save_state
from hydra_ros.state_store import SavedState, StateError, StateFacts, StateStore
from small_models import CONFIG

POSE = np.diag([1.0, -1.0, -1.0, 1.0])


class Files:
    """The world's own files, of snapshots without a model."""

    full = False

    def write(self, folder: Path, snapshot: State, about: dict) -> None:
        if self.full:
            folder.mkdir(parents=True, exist_ok=True)
            Path("/dev/full").write_text("latents")
        save_state(folder, snapshot, CONFIG, "weights", about)

    def read(self, folder: Path) -> State:
        device, store = torch.device("cpu"), LatentStore()
        return load_state(folder, CONFIG, "weights", device=device, store=store)

    read_facts = staticmethod(read_facts)


def open_store(folder: Path) -> StateStore:
    return StateStore(folder, Files())


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "states")


def state(name: str = "start", prompt: str = "", **changes) -> SavedState:
    segment = Segment(
        Latents(torch.ones(latent_shape(CONFIG, 5))), np.tile(np.eye(4), (5, 1, 1)),
        np.arange(5.0), "observed",
    )  # fmt: skip
    snapshot = State(
        memory=MemoryBank([segment]), pose=POSE, time=4.5, seed=3, chunks=1, prompt=prompt,
        fov_x=1.0,
    )  # fmt: skip
    facts = StateFacts(
        name=name, time=4.5, memory_frames=5, memory_bytes=segment.latents.bytes, pose=POSE,
        model=CONFIG.name, world="procedural world 3", saved_at=1, persistent=False,
    )  # fmt: skip
    return SavedState(facts=dataclasses.replace(facts, **changes), snapshot=snapshot)


def on_disk(name: str = "start", prompt: str = "", **changes) -> SavedState:
    return state(name, prompt, persistent=True, **changes)


def names(store: StateStore) -> list[str]:
    return [facts.name for facts in store.list()]


def test_a_state_in_memory_is_the_snapshot_itself_and_leaves_nothing_on_disk(store):
    kept = state()
    store.save(kept)
    assert store.load("start").snapshot is kept.snapshot
    assert not store.folder.exists()


def test_a_persistent_state_is_there_after_a_restart(store):
    kept = on_disk(prompt="a dog")
    store.save(kept)
    again = open_store(store.folder)
    loaded = again.load("start")
    assert loaded.snapshot.prompt == "a dog" and loaded.seed == 3
    for field in dataclasses.fields(StateFacts):
        np.testing.assert_array_equal(
            getattr(loaded.facts, field.name), getattr(kept.facts, field.name)
        )
    assert [facts.memory_bytes for facts in again.list()] == [kept.facts.memory_bytes]


def test_states_are_listed_oldest_first_wherever_they_are(store):
    open_store(store.folder).save(on_disk("second", saved_at=20))
    store.save(state("third", saved_at=30))
    store.save(on_disk("first", saved_at=10))
    assert names(store) == ["first", "second", "third"]


def test_a_name_is_taken_until_overwrite_is_set(store):
    store.save(state(prompt="old"))
    with pytest.raises(StateError, match="there is a state 'start' already; set overwrite"):
        store.save(state(prompt="new"))
    store.save(state(prompt="new"), overwrite=True)
    assert store.load("start").snapshot.prompt == "new"
    open_store(store.folder).save(on_disk("kept"))
    with pytest.raises(StateError, match="already"):
        store.save(state("kept"))


def test_a_persistent_state_is_replaced_whole(store):
    store.save(on_disk(prompt="old"))
    store.save(on_disk(prompt="new"), overwrite=True)
    assert open_store(store.folder).load("start").snapshot.prompt == "new"
    store.save(state(prompt="in memory"), overwrite=True)
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
    open_store(outside).save(on_disk())
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
    assert (outside / "start" / "state.json").exists()


def test_a_link_inside_a_state_is_refused(store):
    store.save(on_disk())
    secret = store.folder.parent / "secret"
    secret.write_text("secret")
    facts = store.folder / "start" / "state.json"
    facts.unlink()
    facts.symlink_to(secret)
    with pytest.raises(StateError, match="symbolic link"):
        open_store(store.folder).load("start")


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        ("state.json", None, "holds no readable state"),
        ("state.json", '{"format": 2, "ti', "holds no readable state"),
        ("memory-*", None, "holds no readable state"),
        ("memory-*", "cut short", "was cut short"),
    ],
)
def test_a_half_written_state_is_refused_and_can_be_deleted(store, pattern, text, words):
    store.save(on_disk())
    (path,) = (store.folder / "start").glob(pattern)
    path.unlink() if text is None else path.write_text(text)
    again = open_store(store.folder)
    assert names(again) == []
    with pytest.raises(StateError, match=f"state 'start' cannot be used: .*{words}"):
        again.load("start")
    again.delete("start")
    assert list(store.folder.iterdir()) == []


def test_a_state_of_other_weights_is_refused(store):
    save_state(store.folder / "other", state().snapshot, CONFIG, "retrained", {})
    with pytest.raises(StateError, match="does not say what it is"):
        store.load("other")
    about = {"world": "", "saved_at": 1}
    save_state(store.folder / "other", state().snapshot, CONFIG, "retrained", about)
    assert names(store) == ["other"]
    with pytest.raises(StateError, match="of other weights"):
        store.load("other")


def test_a_full_disk_is_an_error_that_leaves_the_old_state(store, monkeypatch):
    store.save(on_disk(prompt="old"))
    monkeypatch.setattr(Files, "full", True)
    for name in ("start", "other"):
        with pytest.raises(StateError, match=rf"'{name}' cannot be written.* No space left"):
            store.save(on_disk(name, prompt="new"), overwrite=True)
    assert store.load("start").snapshot.prompt == "old"
    assert names(store) == ["start"]
    assert open_store(store.folder).load("start").snapshot.prompt == "old"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        open_store(tmp_path / "file" / "states").save(on_disk())
