# SPDX-License-Identifier: Apache-2.0
"""Products in 8 bits err as their rounding says, and what cannot run is replaced once."""

import copy
import logging

import pytest
import torch
from small_transformers import Inputs, random_model

from hydra_model.config import ACCELERATIONS
from hydra_model.fast import passes
from hydra_model.fast.acceleration import (
    FP8_PRODUCTS,
    Acceleration,
    acceleration_preset,
    available,
)
from hydra_model.fast.engine import accelerate
from hydra_model.fast.products import Fp8Product, Product, quantise

CPU = torch.device("cpu")
PLAIN = {"fusion": "none", "attention": "gather"}
# E4M3 keeps 3 bits behind the leading one: a value is off by at most 1/16 of itself, in the mean
# of squares by 1/16 / sqrt(3) of its power of two, at most 3.7 %. Both factors of a term are
# rounded independently, and so are the terms: sqrt(2) * 3.7 %.
BOUND = 0.052


def test_rounding_to_8_bits_is_within_a_sixteenth_of_each_value():
    x = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    rows = quantise(x)
    error = (rows.values.float() * rows.scales - x).abs()
    assert (error <= x.abs() / 16 + rows.scales * 2**-9).all()


@pytest.mark.parametrize("outlier", [1.0, 100.0])
def test_a_product_in_8_bits_is_off_by_a_few_percent_whatever_a_rows_size(outlier):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 512, generator=generator)
    x[::7] *= outlier
    weight = torch.randn(96, 512, generator=generator) / 512**0.5
    bias = torch.randn(96, generator=generator)
    expected = Product(weight, bias)(x)
    got = Fp8Product(weight, bias)(x)
    errors = (got - expected).norm(dim=1) / (expected - bias).norm(dim=1)
    assert 0 < errors.max() < BOUND


@torch.no_grad()
def test_a_forward_in_8_bits_stays_near_the_exact_one():
    model = random_model(top_k=1, window=5)  # all memory is selected: no choice can tip over
    inputs = Inputs(model, 1, 4, 4)
    conditioning = inputs.conditionings(model)[0]
    expected = model(inputs.target, inputs.sigma, conditioning)
    errors = {}
    for products in ((), *((name,) for name in FP8_PRODUCTS), FP8_PRODUCTS):
        fast = copy.deepcopy(model)
        accelerate(fast, Acceleration(fp8=products, **PLAIN))
        velocity = fast(inputs.target, inputs.sigma, conditioning)
        errors[products] = ((velocity - expected).norm() / expected.norm()).item()
    assert errors[()] < 1e-5
    assert all(1e-5 < error < 2 * BOUND for products, error in errors.items() if products)


def test_a_wrong_acceleration_lists_the_right_ones():
    with pytest.raises(ValueError, match="'turbo'; accepted: auto, reference, exact, fp8"):
        acceleration_preset("turbo", CPU)
    assert ACCELERATIONS[0] == "auto" and acceleration_preset("auto", CPU) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"fusion": "magic"}, "none, compile, triton"), ({"attention": "x"}, "gather-cudnn"),
     ({"fp8": ("all",)}, "qkv, output, text, up, down, attention")],
)  # fmt: skip
def test_a_wrong_switch_says_what_is_accepted(options, words):
    with pytest.raises(ValueError, match=words):
        Acceleration(**options)


def test_what_a_device_cannot_run_is_replaced_and_said_once(caplog):
    wanted = Acceleration(attention="triton", graph=True, fp8=FP8_PRODUCTS)
    with caplog.at_level(logging.WARNING):
        nearest = available(wanted, CPU)
    assert nearest == Acceleration(fusion="none", decoder=False)
    assert len(caplog.records) == 1
    assert "FP8" in caplog.text and "Triton" in caplog.text and "graphs" in caplog.text
    assert "compiled decoder" in caplog.text
    caplog.clear()
    assert available(nearest, CPU) == nearest
    assert not caplog.records


def test_flex_attention_needs_triton_on_a_gpu_and_a_compiler_on_a_cpu(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    wanted = Acceleration(attention="flex")
    assert available(wanted, CPU).attention == "flex"
    assert available(wanted, torch.device("cuda")).attention == "measured"


def test_passes_that_fail_on_the_machine_are_replaced_and_said(caplog, monkeypatch):
    def broken(fusion):
        raise RuntimeError("no C compiler")

    monkeypatch.setattr(passes, "_fused", broken)
    with caplog.at_level(logging.WARNING):
        assert passes.choose_passes("triton", CPU) == passes.Passes()
    assert "step by step" in caplog.text and "no C compiler" in caplog.text
