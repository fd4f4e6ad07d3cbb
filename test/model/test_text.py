# SPDX-License-Identifier: Apache-2.0
"""Prompt embeddings: agreement with the release, and the cache."""

import miniature
import pytest
import torch
from parity import load_case, relative_error, seeding

from hydra_model.checkpoints.upstream_names import text_names
from hydra_model.config import TextConfig
from hydra_model.text import TextEncoder, build_text_model, clean_prompt, encode_tokens


class Loader:
    """Builds the same small model at each call and counts the calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        torch.manual_seed(0)
        return build_text_model(miniature.CONFIG.text)


@pytest.fixture
def make_encoder(tmp_path):
    miniature.write_tokenizer(tmp_path / "tokenizer")

    def make(identity="weights", cache=True):
        loader = Loader()
        encoder = TextEncoder(
            miniature.CONFIG.text,
            load_model=loader,
            tokenizer_folder=tmp_path / "tokenizer",
            identity=identity,
            cache_folder=tmp_path / "cache" if cache else None,
        )
        return encoder, loader

    return make


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("  a\tdog \n walks ", "a dog walks"),
        ("a &amp; b", "a & b"),
        ("a &amp;lt; b", "a < b"),
        ("a&nbsp;b", "a b"),
        ("", ""),
    ],
)
def test_prompts_are_cleaned_of_whitespace_and_entities(prompt, cleaned):
    assert clean_prompt(prompt) == cleaned


def test_agrees_with_the_released_encoder():
    reference, case = load_case("umt5")
    sizes = case["config"]
    model = build_text_model(
        TextConfig(
            vocab_size=sizes["vocab"],
            dim=sizes["dim"],
            ffn_dim=sizes["dim_ffn"],
            num_heads=sizes["num_heads"],
            num_blocks=sizes["num_layers"],
            num_buckets=sizes["num_buckets"],
        )
    )
    names = text_names(model.state_dict())
    shapes = {their: model.state_dict()[our].shape for our, their in names.items()}
    weights = seeding().seeded_state_dict(shapes, case["seed"])
    model.load_state_dict({our: weights[their] for our, their in names.items()}, strict=False)
    ids, mask = reference["ids"].long(), reference["mask"].long()
    assert relative_error(encode_tokens(model, ids, mask), reference["embedding"]) < 1e-4


def test_rows_past_the_prompt_are_zero_and_padding_changes_nothing(make_encoder):
    encoder, loader = make_encoder(cache=False)
    embedding = encoder.embed("a dog")  # and the end token
    assert embedding.shape == (10, 8)
    assert embedding[:3].any(dim=1).all() and not embedding[3:].any()
    ids = torch.tensor([[3, 4, 1, 0, 0, 0, 0, 0, 0, 0]])
    padded = encode_tokens(loader(), ids, (ids > 0).long())[0]
    assert torch.allclose(embedding, padded, atol=1e-5)


def test_long_prompts_are_cut_and_empty_ones_accepted(make_encoder):
    encoder, _ = make_encoder(cache=False)
    assert encoder.embed("dog " * 50).any(dim=1).all()
    assert encoder.embed("").any(dim=1).sum() == 1


def test_a_known_prompt_needs_no_model(make_encoder):
    encoder, loader = make_encoder()
    first = encoder.embed("a dog walks")
    encoder, loader = make_encoder()
    assert torch.equal(encoder.embed(" a  dog walks\n"), first)
    assert loader.calls == 0


def test_the_model_is_loaded_once_for_several_prompts(make_encoder):
    encoder, loader = make_encoder()
    first, second, third = encoder.embed_all(["a dog", "", "a dog"])
    assert loader.calls == 1
    assert torch.equal(first, third) and not torch.equal(first, second)


def test_other_weights_do_not_use_the_cache(make_encoder):
    make_encoder("weights")[0].embed("a dog")
    encoder, loader = make_encoder("other weights")
    encoder.embed("a dog")
    assert loader.calls == 1


def test_a_damaged_cache_is_made_anew(make_encoder, tmp_path):
    expected = make_encoder()[0].embed("a dog")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(b"damaged")
    encoder, loader = make_encoder()
    assert torch.equal(encoder.embed("a dog"), expected)
    assert loader.calls == 1


def test_a_missing_tokenizer_is_named(tmp_path):
    encoder = TextEncoder(
        miniature.CONFIG.text,
        load_model=Loader(),
        tokenizer_folder=tmp_path / "none",
        identity="weights",
    )
    with pytest.raises(ValueError, match=r"tokenizer folder .*none does not exist"):
        encoder.embed("a dog")
