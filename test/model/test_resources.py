# SPDX-License-Identifier: Apache-2.0
"""The default weights are found in an installed package and in a source tree."""

import pytest

from hydra_model import resources


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "model" / "hydra_model"
    folder.mkdir(parents=True)
    monkeypatch.setattr(resources, "__file__", str(folder / "resources.py"))
    return folder


def test_in_a_source_tree_weights_lie_beside_the_package(package):
    (package.parent / "weights").mkdir()
    assert resources.weights_folder() == package.parent / "weights"


def test_in_an_installed_package_weights_lie_inside(package):
    (package.parent / "weights").mkdir()
    (package / "weights").mkdir()
    assert resources.weights_folder() == package / "weights"


def test_without_weights_both_places_are_named(package):
    with pytest.raises(FileNotFoundError) as error:
        resources.weights_folder()
    assert str(package / "weights") in str(error.value)
    assert str(package.parent / "weights") in str(error.value)
