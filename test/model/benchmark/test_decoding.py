# SPDX-License-Identifier: Apache-2.0
"""The benchmark puts every way to decode beside the plain one."""

import numpy as np
import published_tiny_decoder
import pytest

from hydra_model.autoencoder_passes import residual_block
from hydra_model.benchmark.decoding import run_autoencoder
from hydra_model.benchmark.runs import Results
from hydra_model.benchmark.subjects import path
from hydra_model.world import World


@pytest.mark.slow
def test_compiled_and_tiny_decoders_have_a_row_each(tmp_path):
    published_tiny_decoder.write_world(tmp_path)
    world = World.load(tmp_path / "model", device="cpu", dtype="float32")
    world.reset(np.full((17, 48, 80, 3), 90, np.uint8), path(17))
    results = Results()
    run_autoencoder(world, results, repeats=1, compiled=True)
    rows = {row["what"]: row for row in results.rows["autoencoder"]}
    assert rows["decode, as a stream, compiled"]["error"] < 1e-5
    assert rows["tiny decoder, as a stream"]["frames"] == 9
    assert all(row["seconds"] > 0 for row in rows.values())
    assert world.autoencoder.decoder_block is residual_block  # what follows is not compiled
