# SPDX-License-Identifier: Apache-2.0
"""States by the hashes of their contents, on a small model with random weights."""

import dataclasses
import json

import numpy as np
import pytest
import small_futures

import small_models
from hydra_model.state_files import StateError
from hydra_model.workers.packed_states import PackedState, Packer, StateCache
from hydra_model.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    world = small_futures.begun(small_futures.recipe(folder).load())
    world.step(small_futures.path(9))
    return world


@pytest.fixture
def packer(world) -> Packer:
    return Packer(world.config, world.weights)


@pytest.fixture
def cache(world) -> StateCache:
    return StateCache(Packer(world.config, world.weights), world.device)


def sent(packer, cache, state) -> PackedState:
    packed = packer.pack(state)
    cache.accept(packed, packer.contents(state, cache.missing(packed)))
    return packed


def test_a_state_arrives_as_it_was(world, packer, cache):
    state = dataclasses.replace(world.state(), seed=2**62 + 1, prompt="a dog & a ball")
    there = cache.open(sent(packer, cache, state))
    assert (there.seed, there.prompt, there.time, there.chunks, there.fov_x) == (
        state.seed, state.prompt, state.time, state.chunks, state.fov_x,
    )  # fmt: skip
    assert np.array_equal(there.pose, state.pose)
    for a, b in zip(there.memory.segments, state.memory.segments, strict=True):
        assert a.origin == b.origin
        assert np.array_equal(a.latents.read(), b.latents.read())
        assert np.array_equal(a.poses, b.poses) and np.array_equal(a.thumbnails, b.thumbnails)
        assert np.array_equal(a.sightings.direction, b.sightings.direction)


def test_the_hash_is_that_of_the_contents(world, packer):
    state = world.state()
    assert packer.pack(state) == Packer(world.config, world.weights).pack(state)
    assert packer.pack(state).hash != packer.pack(dataclasses.replace(state, seed=8)).hash


def test_only_what_is_new_is_sent(world, packer, cache):
    before = world.state()
    sent(packer, cache, before)
    world.step(small_futures.path(5))
    packed = packer.pack(world.state())
    assert cache.missing(packed) == [packer.hash(world.state().memory.segments[-1])]
    assert cache.missing(packer.pack(before)) == []


def test_contents_used_last_are_kept_within_the_limit(world, packer):
    cache = StateCache(Packer(world.config, world.weights), world.device, kept_bytes=0)
    first = sent(packer, cache, world.state())
    other = small_futures.begun(world)  # another world, whose first picture is the same
    other.step(small_futures.path(5, 0.1))
    second = sent(packer, cache, other.state())
    cache.open(second)
    assert len(cache.missing(first)) == len(first.read()["segments"]) - 1


def test_a_state_that_was_not_sent_is_refused(world, packer, cache):
    packed = packer.pack(world.state())
    with pytest.raises(StateError, match="not known here: 2 of its memory's 2 contents"):
        cache.open(packed)


@pytest.fixture(autouse=True)
def same_world(world):
    state = world.state()
    yield
    world.restore(state)


def test_contents_that_were_changed_on_the_way_are_refused(world, packer, cache):
    packed = packer.pack(world.state())
    contents = packer.contents(world.state(), cache.missing(packed))
    name, content = next(iter(contents.items()))
    with pytest.raises(StateError, match=f"memory {name[:12]} was changed on its way"):
        cache.accept(packed, {name: content[:-1] + bytes([content[-1] ^ 1])})
    with pytest.raises(StateError, match="is none of state"):
        cache.accept(packed, {"0" * 64: content})
    assert name in cache.missing(packed)


def test_facts_that_were_changed_on_the_way_are_refused(world, packer, cache):
    packed = packer.pack(world.state())
    facts = json.dumps({**packed.read(), "seed": 1000})
    with pytest.raises(StateError, match="was changed on its way"):
        cache.open(PackedState(packed.hash, facts))


def test_a_state_of_other_weights_is_refused(world, cache):
    with pytest.raises(StateError, match="other weights of model 'small'"):
        cache.open(Packer(world.config, "0123456789abcdef").pack(world.state()))


def test_a_state_goes_on_only_from_its_own_beginning(world, packer):
    base = world.state()
    world.step(small_futures.path(5))
    after = world.state()
    packed = packer.pack(after)
    contents = packer.contents(after, [packer.hash(after.memory.segments[-1])])
    there = packer.unpack(packed, contents, base, world.device)
    assert there.memory.segments[:-1] == base.memory.segments  # the same, not copies
    assert there.time == after.time
    small_futures.begun(world)
    with pytest.raises(StateError, match="does not go on from its beginning"):
        world.step(small_futures.path(9, 0.1))
        packer.unpack(packed, contents, world.state(), world.device)
