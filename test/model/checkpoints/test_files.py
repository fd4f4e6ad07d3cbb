# SPDX-License-Identifier: Apache-2.0
"""Files of tensors: whole, split, damaged and malicious."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from hydra_model.checkpoints import files
from hydra_model.checkpoints.files import CheckpointError, identity, read_tensors, write_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.ones(4, dtype=torch.bfloat16)}


def assert_same(tensors, expected=TENSORS):
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def save_torch(path):
    torch.save(TENSORS, path)


def save_legacy(path):
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)


def save_safetensors(path):
    save_file(TENSORS, path)


FORMATS = [save_torch, save_legacy, save_safetensors]


@pytest.mark.parametrize("save", FORMATS)
def test_formats_are_told_apart_by_content(tmp_path, save):
    path = tmp_path / "weights.bin"
    save(path)
    assert_same(read_tensors(path))


@pytest.mark.parametrize("save", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_truncated_files_are_named(tmp_path, save, share):
    path = tmp_path / "weights.bin"
    save(path)
    os.truncate(path, int(share * path.stat().st_size))
    expected = "truncated" if share else "is not a checkpoint"
    with pytest.raises(CheckpointError, match=rf"weights\.bin.* {expected}"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"version https://git-lfs", bytes(100)])
def test_other_files_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "hydra.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"hydra\.ckpt is not a checkpoint"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"hydra\.ckpt cannot be read: No such file"):
        read_tensors(tmp_path / "hydra.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_tensors(tmp_path)


class RunsCode:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "pickle", "legacy"])
def test_code_in_a_file_is_not_run(tmp_path, form):
    path, trace = tmp_path / "hydra.ckpt", tmp_path / "trace"
    values = {"a": torch.zeros(1), "b": RunsCode(trace)}
    if form == "torch":
        torch.save(values, path)
    elif form == "legacy":
        torch.save(values, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"b": RunsCode(trace)}))
    with pytest.raises(CheckpointError, match=r"hydra\.ckpt"):
        read_tensors(path)
    assert not trace.exists()
    if form == "torch":
        with pytest.raises(CheckpointError, match=r"names Python code \(\w+\.mkdir\)"):
            read_tensors(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"state_dict": {"a": torch.zeros(1)}}, "'state_dict' holds a dict"),
        ({"a": torch.zeros(1), "step": 3}, "'step' holds a int"),
        ([torch.zeros(1)], "holds a list, not tensors by name"),
        ({}, "holds a dict, not tensors by name"),
    ],
)
def test_only_flat_state_dicts_are_read(tmp_path, values, message):
    path = tmp_path / "hydra.ckpt"
    torch.save(values, path)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(path)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "part.safetensors"
    write_tensors(path, TENSORS)
    assert_same(read_tensors(path))
    assert [file.name for file in tmp_path.iterdir()] == ["part.safetensors"]
    write_tensors(path, TENSORS, torch.float16)
    assert_same(read_tensors(path), {name: value.half() for name, value in TENSORS.items()})


def test_large_sets_are_split_and_read_as_one(tmp_path, monkeypatch):
    path = tmp_path / "part.safetensors"
    write_tensors(path, {"old": torch.zeros(1)})
    monkeypatch.setattr(files, "SHARD_BYTES", 24)
    write_tensors(path, TENSORS)
    assert {file.name for file in tmp_path.iterdir()} == {
        "part-00001-of-00002.safetensors",
        "part-00002-of-00002.safetensors",
        "part.safetensors.index.json",
    }
    assert_same(read_tensors(path))
    (tmp_path / "part-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="part-00002-of-00002"):
        read_tensors(path)
    path.with_name("part.safetensors.index.json").write_text('{"weight_map": {"a": "../x"}}')
    with pytest.raises(CheckpointError, match=re.escape("outside its folder: '../x'")):
        read_tensors(path)


def test_writing_over_a_file_that_is_in_use_leaves_the_tensors_alone(tmp_path):
    path = tmp_path / "part.safetensors"
    write_tensors(path, TENSORS)
    mapped = read_tensors(path)
    write_tensors(path, {name: value + 1 for name, value in mapped.items()})
    assert_same(mapped)


def test_an_unwritable_place_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"part\.safetensors cannot be written"):
        write_tensors(tmp_path / "none" / "part.safetensors", TENSORS)


def test_identity_follows_the_content(tmp_path):
    path = tmp_path / "part.safetensors"
    write_tensors(path, TENSORS)
    before = identity([path])
    assert identity([path]) == before
    write_tensors(path, {name: value + 1 for name, value in TENSORS.items()})
    assert identity([path]) != before
