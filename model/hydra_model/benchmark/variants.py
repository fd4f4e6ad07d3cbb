# SPDX-License-Identifier: Apache-2.0
"""The ways to run a transformer's forward that are measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from hydra_model.cpu_blocks import use_cpu_blocks
from hydra_model.fast.acceleration import FP8_PARTS, FP8_PRODUCTS, Acceleration, runs_fp8
from hydra_model.fast.engine import accelerate
from hydra_model.fast.joint import suits
from hydra_model.transformer import Transformer

READABLE = "readable"


@dataclass(frozen=True)
class Variant:
    """A name and what it does to a model; ``paired`` ones are measured on guidance's two."""

    name: str
    apply: Callable[[Transformer], object]
    paired: bool = False


def variants(model: Transformer, device: torch.device, only: tuple[str, ...] = ()) -> list[Variant]:
    """Return what applies to the model and the device, the readable path first.

    ``only`` keeps those, and the readable path. A wrong name lists the right ones.
    """
    found = [Variant(READABLE, lambda model: None)]
    if suits(model.config):
        found += [_fast(name, switches) for name, switches in _switches(device).items()]
    elif device.type == "cpu":
        found.append(Variant("cpu blocks", use_cpu_blocks))
    names = [variant.name for variant in found]
    for name in only:
        if name not in names:
            raise ValueError(f"unknown variant {name!r}; accepted here: {', '.join(names)}")
    return [v for v in found if not only or v.name in only or v.name == READABLE]


def _fast(name: str, switches: Acceleration) -> Variant:
    return Variant(name, lambda model: accelerate(model, switches), paired="pair" in name)


def _switches(device: torch.device) -> dict[str, Acceleration]:
    """Return the switches one after another, each with those before it where it pays."""
    if device.type != "cuda":
        return {
            "fast": Acceleration(fusion="none", attention="gather"),
            "fast+split": Acceleration(fusion="none", attention="split-cpu"),
            "fast+pair": Acceleration(fusion="none", attention="gather", paired=True),
        }
    base = Acceleration(attention="gather", folded_text=False, in_place=False)
    found = {
        "merged": replace(base, fusion="none"),
        "one pass (triton)": base,
        "one pass (compile)": replace(base, fusion="compile"),
    }
    for backend in ("gather-cudnn", "split-flash", "split-cudnn", "split-flash3", "flex", "triton"):
        found[backend] = replace(base, attention=backend)
    found["best attention"] = replace(base, attention="measured")
    found["folded text"] = Acceleration(in_place=False)
    found["exact"] = Acceleration()
    found["exact+graph"] = Acceleration(graph=True)
    found["exact (pair by two)"] = Acceleration()
    found["exact+pair"] = Acceleration(paired=True)
    found["exact+pair+graph"] = Acceleration(paired=True, graph=True)
    if runs_fp8(device):
        for products in (("qkv",), ("up",), ("up", "down"), FP8_PRODUCTS):
            found[f"fp8 {' '.join(products)}"] = Acceleration(fp8=products)
        found["fp8 all+pair+graph"] = Acceleration(fp8=FP8_PARTS, paired=True, graph=True)
    return found


_PASSES = ("forward", "pair", "context", "target", "refine")  # that a variant may put in the way


@contextmanager
def applied(variant: Variant, model: Transformer) -> Iterator[object]:
    """Run a model by a variant within; afterwards it is readable again."""
    try:
        yield variant.apply(model)
    finally:
        _take(model)


@contextmanager
def readable(model: Transformer) -> Iterator[None]:
    """Run a model by the readable path within; afterwards as before."""
    taken = _take(model)
    try:
        yield
    finally:
        for own, passes in taken:
            own.update(passes)


def _take(model: Transformer) -> list[tuple[dict[str, object], dict[str, object]]]:
    """Take what variants have put into modules, and return it with their attributes."""
    owned = [vars(module) for module in (model, *model.all_layers)]
    return [(own, {n: own.pop(n) for n in _PASSES if n in own}) for own in owned]
