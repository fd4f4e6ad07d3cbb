# SPDX-License-Identifier: Apache-2.0
import published_tiny_decoder as published

from hydra_model.tiny_decoder import TinyDecoder
from hydra_ros.parameters import Settings
from hydra_ros.world_loader import load_world


def test_the_tiny_decoder_of_the_parameters_is_the_worlds(tmp_path):
    file = published.write_world(tmp_path)
    model = str(tmp_path / "model")
    loaded = [
        load_world(Settings(model=model, device="cpu", tiny_decoder=tiny), lambda *_: None)
        for tiny in (str(file), "")
    ]
    assert isinstance(loaded[0].decoder, TinyDecoder)
    assert loaded[1].decoder is loaded[1].autoencoder
