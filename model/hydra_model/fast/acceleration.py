# SPDX-License-Identifier: Apache-2.0
"""What of the fast path is switched on, named sets of it, and what a device cannot run."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from dataclasses import dataclass
from typing import Literal

import torch

from hydra_model.config import ACCELERATIONS

logger = logging.getLogger(__name__)

Fusion = Literal["none", "compile", "triton"]
ATTENTION_BACKENDS = (
    "gather", "gather-flash", "gather-cudnn", "split-flash", "split-cudnn", "split-flash3",
    "split-cpu", "flex", "triton", "triton-wide", "fp8-pairs", "fp8-small", "fp8-small-fast",
    "fp8-plain",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Acceleration:
    """Switches of the fast path; every one leaves the result the same up to rounding but fp8.

    ``merged``: one product for queries, keys and values, the projector folded into the output
    product, the tokenizer as a matrix product. ``fusion``: how norms, rotations and residuals
    become single passes over memory: not at all, by ``torch.compile`` or by own Triton kernels.
    ``attention``: one of ``ATTENTION_BACKENDS``, or "measured" for the fastest that runs here.
    ``prompt_once``: keys and values of the text are kept per prompt; ``folded_text``: as
    ``text.TextKeys``. ``in_place``: products whose result is added to the residual stream add it
    themselves (``residual.Residual``). ``paired``: guidance is one batch of two that shares what
    does not depend on the text. ``graph``: a forward is recorded once and replayed. ``decoder``:
    the autoencoder's streaming decoder is compiled for the model's frame size. ``fp8``: what runs
    in 8 bits, products (of ``FP8_PRODUCTS``) and "attention", for which "measured" then tries
    kernels in 8 bits too.
    """

    merged: bool = True
    fusion: Fusion = "triton"
    attention: str = "measured"
    prompt_once: bool = True
    folded_text: bool = True
    in_place: bool = True
    paired: bool = False
    graph: bool = False
    decoder: bool = True
    fp8: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.fusion not in ("none", "compile", "triton"):
            raise ValueError(f"fusion is {self.fusion!r}; accepted: none, compile, triton")
        if self.attention not in ("measured", *ATTENTION_BACKENDS):
            accepted = ", ".join(("measured", *ATTENTION_BACKENDS))
            raise ValueError(f"attention is {self.attention!r}; accepted: {accepted}")
        for name in self.fp8:
            if name not in FP8_PARTS:
                raise ValueError(f"fp8 product {name!r}; accepted: {', '.join(FP8_PARTS)}")


FP8_PRODUCTS = ("qkv", "output", "text", "up", "down")
ATTENTION = "attention"
FP8_PARTS = (*FP8_PRODUCTS, ATTENTION)
REFERENCE = "reference"
_PRESETS: dict[str, Acceleration | None] = {
    REFERENCE: None,  # the readable path
    "exact": Acceleration(paired=True, graph=True),
    "fp8": Acceleration(paired=True, graph=True, fp8=FP8_PARTS),
}


def acceleration_preset(name: str, device: torch.device) -> Acceleration | None:
    """Return what a named set switches on, as far as ``device`` can; None is the readable path.

    "auto" is "exact" on a GPU and the readable path elsewhere. What the device lacks is replaced
    by the nearest that it has, with a warning; a wrong name lists the right ones.
    """
    if name not in ACCELERATIONS:
        raise ValueError(f"unknown acceleration {name!r}; accepted: {', '.join(ACCELERATIONS)}")
    if name == "auto":
        name = "exact" if device.type == "cuda" else REFERENCE
    wanted = _PRESETS[name]
    return None if wanted is None else available(wanted, device)


def available(wanted: Acceleration, device: torch.device) -> Acceleration:
    """Return the nearest to ``wanted`` that ``device`` can run, with a warning if it is not it."""
    changes: dict[str, object] = {}
    missing = []
    if wanted.fp8 and not runs_fp8(device):
        changes["fp8"] = ()
        missing.append("FP8 (needs a GPU of compute capability 8.9): the number type stays")
    triton = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    if not triton and wanted.fusion != "none":
        changes["fusion"] = "none"
        missing.append("Triton: norms and rotations run step by step")
    needy = wanted.attention.startswith(("triton", "fp8"))
    needy = needy or (device.type != "cpu" and wanted.attention == "flex")
    if not triton and needy:
        changes["attention"] = "measured"
        missing.append(f"attention by {wanted.attention}: the fastest of the others")
    if not triton and wanted.decoder:
        changes["decoder"] = False
        missing.append("a compiled decoder (needs Triton): it runs step by step")
    if wanted.graph and device.type != "cuda":
        changes["graph"] = False
        missing.append("CUDA graphs: forwards are launched one by one")
    if missing:
        logger.warning("not on %s: %s", device, "; ".join(missing))
    return dataclasses.replace(wanted, **changes)  # type: ignore[arg-type]


def runs_fp8(device: torch.device) -> bool:
    """Whether the device multiplies 8-bit floating-point matrices."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)
