# SPDX-License-Identifier: Apache-2.0
import published_tiny_decoder as published

import small_models
from hydra_model.checkpoints import load_config
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


def test_a_temperature_below_0_is_the_models_own(tmp_path):
    small_models.write_model(tmp_path)
    own = load_config(tmp_path).sampler.temperature
    for given, expected in ((-1.0, own), (0.0, 0.0), (0.5, 0.5)):
        settings = Settings(model=str(tmp_path), device="cpu", sampler_temperature=given)
        assert load_world(settings, lambda *_: None).sampler.temperature == expected
