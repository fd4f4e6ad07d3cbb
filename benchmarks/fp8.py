# SPDX-License-Identifier: Apache-2.0
"""What 8 bits bring on this GPU: attention, matrix products, whole forwards, at full size.

    PYTHONPATH=model python -m benchmarks.fp8                    # one Hopper GPU, two minutes
    PYTHONPATH=model python -m benchmarks.fp8 --parts products   # attention, products, forward

Needs PyTorch and Triton alone. Kernels are compiled first, several at a time; every part runs in a
process of its own, so that one that fails leaves the others. ``--size small --device cpu`` under
TRITON_INTERPRET=1 only tries the script.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from hydra_model.benchmark.made_up import fill
from hydra_model.benchmark.measure import measure
from hydra_model.config import TransformerConfig
from hydra_model.fast import attention, joint, products
from hydra_model.fast.acceleration import FP8_PARTS, FP8_PRODUCTS, Acceleration
from hydra_model.fast.attention import TILINGS, Retrieval
from hydra_model.fast.engine import Engine
from hydra_model.fast.passes import Passes, choose_passes
from hydra_model.fast.spread import make_plan
from hydra_model.transformer import Transformer

PARTS = ("attention", "products", "forward")
SMALL = TransformerConfig(dim=64, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16, text_dim=16,
                          latent_channels=4, top_k=2)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """A transformer, latent frames (context and target each), latent rows and columns."""

    config: TransformerConfig
    frames: int
    rows: int
    columns: int
    text: int

    @property
    def tokens(self) -> int:
        return self.rows * self.columns // 4


SIZES = {
    "full": Size(TransformerConfig(), 20, 60, 104, 512),
    "small": Size(SMALL, 6, 8, 12, 16),
}


def tilings() -> dict[str, dict[str, Any]]:
    """Return the tilings that the model tries, and further ones for comparison."""
    found = dict(TILINGS)
    for queries, keys, stages, exact in itertools.product((128, 64), (128, 64), (2, 3, 4), (0, 1)):
        options = {"queries": queries, "keys": keys, "stages": stages, "exact_sums": bool(exact),
                   "warps": queries // 16, "rest": queries == 128}  # fmt: skip
        if stages == 4 and exact:
            continue
        name = f"{queries}x{keys}, {stages} stages{', exact sums' if exact else ''}"
        if not any(_full(options) == _full(known) for known in TILINGS.values()):
            found[name] = options
    found["128x128, 5 stages"] = {"stages": 5, "rest": True, "exact_sums": False}
    found["128x64, 128 registers"] = {"keys": 64, "registers": 128, "exact_sums": False}
    found["64x128, pointers"] = {"queries": 64, "warps": 4, "descriptors": False,
                                 "exact_sums": False}  # fmt: skip
    found["128x128, no rest"] = {"exact_sums": False}
    return found


def _full(options: dict[str, Any]) -> Any:
    from hydra_model.fast.fp8_attention import Tiling

    return Tiling(**options)


def operands(size: Size, device: torch.device) -> Retrieval:
    """Return keys and queries of unit size; all keys share a mean, as trained ones do."""
    config = size.config
    frames, tokens, memory = 2 * size.frames, size.tokens, size.tokens // 4
    heads = (config.num_heads, config.head_dim)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    # A part of a token is what all tokens of its row of the picture share: keys come in groups.
    query = normal(1, frames, tokens, *heads) + normal(1, frames, 1, *heads)
    key = normal(1, frames, tokens, *heads) + 2 * normal(1, 1, 1, *heads)
    pair = normal(1, frames // 2, memory, 2, *heads)
    pair[:, :, :, 0] += key.mean((1, 2), keepdim=True)[0, 0, 0]
    value = normal(1, frames, tokens, 3, *heads)[:, :, :, 2]
    plan = make_plan(config, frames, frames // 2, 0, frames, 0, device)
    scores = torch.rand(frames, frames // 2, generator=generator, device=device)
    selected = scores.masked_fill(plan.excluded, -1).topk(plan.count, -1).indices[None]
    return Retrieval(query, key, value, *pair.unbind(3), selected, plan.windows, plan.starts)


def milliseconds(work: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    # With the forward before it three: one is recorded when it is met for the third time.
    return 1000 * measure(work, device, repeats=repeats, warm_up=2).seconds


def show(name: str, *columns: str) -> None:
    print(f"{name:<42}" + "".join(f"{column:>14}" for column in columns), flush=True)


def attention_part(size: Size, device: torch.device) -> dict[str, Any]:
    """Time every backend, and compare a few frames with float32."""
    from hydra_model.fast import fp8_attention

    at = operands(size, device)
    keys = at.windows.shape[1] * size.tokens + at.selected.shape[-1] * (size.tokens // 4)
    work = 4.0 * 2 * size.frames * size.tokens * keys * size.config.dim
    some = [0, size.frames]
    picked = dataclasses.replace(
        at, query=at.query[:, some].float(), key=at.key.float(), value=at.value.float(),
        memory_key=at.memory_key.float(), memory_value=at.memory_value.float(),
        selected=at.selected[:, some], windows=at.windows[some],
        starts=tuple(at.starts[i] for i in some),
    )  # fmt: skip
    expected = attention.gather(picked)
    found: dict[str, Any] = {}

    def one(name: str, run: Callable[[], torch.Tensor], part: float = 0.0) -> None:
        try:
            error = ((run()[:, some].float() - expected).norm() / expected.norm()).item()
            ms = part + milliseconds(run, device)
        except Exception as problem:  # whatever a library or a compiler raises
            show(name, "failed")
            print(f"    {type(problem).__name__}: {str(problem)[:200]}", flush=True)
            return
        found[name] = {"ms": ms, "tflops": work / ms / 1e9, "error": error}
        show(name, f"{ms:.3f}", f"{work / ms / 1e9:.0f}", f"{error:.4f}")

    show("attention of one block", "ms", "TFLOP/s", "error")
    plain = ("split-cudnn", "split-flash3", "gather-cudnn", "split-flash", "triton")
    for name in plain if device.type == "cuda" else ("gather",):
        one(name, functools.partial(attention.BACKENDS[name], at))
    packed = {}
    fields = (at.key, at.value, at.memory_key, at.memory_value, at.selected, at.windows)
    for count in (128, 64):
        pack = functools.partial(fp8_attention.pack, *fields, keys=count)
        try:
            packed[count] = pack(), milliseconds(pack, device)
        except Exception as problem:
            print(f"    rounding failed: {type(problem).__name__}: {str(problem)[:200]}")
            continue
        show(f"rounding keys and values, tiles of {count}", f"{packed[count][1]:.3f}")
        found[f"pack {count}"] = {"ms": packed[count][1]}
    for name, options in tilings().items():
        tiling = fp8_attention.Tiling(**options)
        if tiling.keys not in packed:
            continue
        tiles, own = packed[tiling.keys]
        run = functools.partial(fp8_attention.attend, at.query, tiles, tiling)
        one(name + ("" if name not in TILINGS else f" {describe(options)}"), run, own)
    return found


def describe(options: dict[str, Any]) -> str:
    return " ".join(f"{key[0]}{int(value)}" for key, value in options.items())


def products_part(size: Size, device: torch.device) -> dict[str, Any]:
    """Time each product in bf16 and in 8 bits, and the passes that round."""
    config = size.config
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows, width = 2 * size.frames * size.tokens, config.dim
    passes = choose_passes("triton", device)
    found: dict[str, Any] = {}
    show("products of one block", "ms", "TFLOP/s")

    def one(name: str, run: Callable[[], Any], work: float = 0.0) -> None:
        try:
            ms = milliseconds(run, device)
        except Exception as problem:
            show(name, "failed")
            print(f"    {type(problem).__name__}: {str(problem)[:200]}", flush=True)
            return
        found[name] = {"ms": ms}
        show(name, f"{ms:.3f}", *([f"{work / ms / 1e9:.0f}"] if work else []))

    shapes = {"qkv": (width, 3 * width), "output": (width, width), "up": (width, config.ffn_dim),
              "down": (config.ffn_dim, width)}  # fmt: skip
    for name, (inner, outer) in shapes.items():
        found[f"{name} error"] = product_part(name, rows, inner, outer, dtype, device, one)
    passes_part(size, device, dtype, passes, one)
    return found


def product_part(
    name: str, rows: int, inner: int, outer: int, dtype: torch.dtype, device: torch.device,
    one: Callable[..., None],
) -> float:  # fmt: skip
    """Time one product in every form; return how far 8 bits are off."""
    x = torch.randn(rows, inner, device=device, dtype=dtype)
    weight = torch.randn(outer, inner, device=device, dtype=dtype) / inner**0.5
    bias = torch.randn(outer, device=device, dtype=dtype)
    work = 2.0 * rows * inner * outer
    narrow = products.Fp8Product(weight, bias)
    ready = products.quantise(x)
    exact = F.linear(x, weight, bias)
    error = float((narrow(ready) - exact).norm() / exact.norm())

    def scaled(
        by: torch.Tensor, weights_by: torch.Tensor, plus: torch.Tensor | None, fast: bool
    ) -> torch.Tensor:
        return torch._scaled_mm(
            ready.values, narrow.values.T, scale_a=by, scale_b=weights_by, bias=plus,
            out_dtype=torch.bfloat16, use_fast_accum=fast,
        )  # fmt: skip

    one(f"{name}, bf16", lambda: F.linear(x, weight, bias), work)
    one(f"{name}, 8 bits, scale per row", lambda: narrow(ready), work)
    if device.type == "cuda":
        single = torch.ones((), device=device)
        each = (ready.scales, narrow.scales.T)
        one(f"{name}, bf16, GELU in it",
            lambda: torch._addmm_activation(bias, x, weight.T, use_gelu=True), work)  # fmt: skip
        one(f"{name}, 8 bits, scale per row, no bias", lambda: scaled(*each, None, True), work)
        one(f"{name}, 8 bits, one scale", lambda: scaled(single, single, bias, True), work)
        one(f"{name}, 8 bits, one scale, slow sums",
            lambda: scaled(single, single, bias, False), work)  # fmt: skip
    print(f"    8 bits are off by {error:.4f}", flush=True)
    return error


def passes_part(
    size: Size, device: torch.device, dtype: torch.dtype, passes: Passes, one: Callable[..., None]
) -> None:
    """Time the passes between products."""
    width = size.config.dim
    shape = (1, 2 * size.frames, size.tokens, width)
    x, branch = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
    row = torch.randn(1, 1, 1, width, device=device)
    table = torch.randn(2 * size.frames, size.tokens, size.config.head_dim // 2, device=device)
    gain = torch.ones(width, device=device, dtype=dtype)
    one("norm", lambda: passes.add_norm(x, branch, row, row, row, 1e-6))
    one("norm, rounded", lambda: passes.add_norm_quantised(x, branch, row, row, row, 1e-6))
    one("norm, kept and rounded",
        lambda: passes.add_norm_quantised(x, branch, row, row, row, 1e-6, keep=True))  # fmt: skip
    one("rounding alone", lambda: passes.quantise(x))
    one("norm and rotation", lambda: passes.normalise_rotate(x, gain, table, table, 1e-6))
    hidden = torch.randn(*shape[:-1], size.config.ffn_dim, device=device, dtype=dtype)
    one("GELU, rounded", lambda: passes.gelu_quantised(hidden))


@torch.no_grad()
def made_up(size: Size, device: torch.device) -> tuple[Transformer, tuple[Any, ...]]:
    """Return a transformer with weights that keep sizes, and the arguments of a forward."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    config = size.config
    with device:
        model = Transformer(config).to(dtype)
    generator = torch.Generator(device).manual_seed(0)
    fill(model, generator)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    latents = (1, config.latent_channels, size.frames, size.rows, size.columns)
    times = torch.arange(size.frames, device=device).float()
    conditioning = model.eval().requires_grad_(False).prepare(
        normal(*latents), normal(1, size.frames, 1, 12), normal(1, size.frames, 1, 12),
        context_times=times, target_times=times, text=normal(1, size.text, config.text_dim),
    )  # fmt: skip
    return model, (normal(*latents), torch.tensor([0.7], device=device), conditioning)


@torch.inference_mode()
def forward_part(size: Size, device: torch.device) -> dict[str, Any]:
    """Time whole forwards, and compare their predictions with the exact one."""
    # FlexAttention is left out of the trial: it compiles for long, and is never the fastest here.
    joint.TRIED = tuple(name for name in joint.TRIED if name != "flex")  # type: ignore[assignment]
    model, inputs = made_up(size, device)
    found: dict[str, Any] = {}
    show("one forward", "ms", "off exact")
    plain = {} if device.type == "cuda" else {"attention": "gather"}
    without = tuple(name for name in FP8_PARTS if name != "text")
    variants = {
        "exact": Acceleration(**plain),
        "exact, recorded": Acceleration(graph=True, **plain),
        "8 bits: products": Acceleration(fp8=FP8_PRODUCTS, **plain),
        "8 bits: attention": Acceleration(fp8=("attention",), **plain),
        "8 bits: all but the text's": Acceleration(fp8=without, **plain),
        "8 bits: all": Acceleration(fp8=FP8_PARTS, **plain),
        "8 bits: all, recorded": Acceleration(fp8=FP8_PARTS, graph=True, **plain),
    }
    exact: torch.Tensor | None = None
    for name, switches in variants.items():
        try:
            engine = Engine(model, switches)
            velocity = engine.forward(*inputs)
            exact = velocity if exact is None else exact
            error = ((velocity.float() - exact.float()).norm() / exact.float().norm()).item()
            run = functools.partial(engine.forward, *inputs)
            ms = milliseconds(run, device, 3)
        except Exception as problem:
            show(name, "failed")
            print(f"    {type(problem).__name__}: {str(problem)[:300]}", flush=True)
            continue
        found[name] = {"ms": ms, "error": error, "attention": engine.joint.attention}
        show(name, f"{ms:.1f}", f"{error:.4f}", engine.joint.attention)
        print(f"    in 8 bits: {' '.join(engine.joint.switches.fp8) or 'nothing'}", flush=True)
        if device.type == "cuda" and name in ("exact", "8 bits: all"):
            profile(run)
        del engine, run
    return found


def profile(work: Callable[[], Any], rows: int = 14) -> None:
    """Print what a GPU spends most time on."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with record(activities=[ProfilerActivity.CUDA]) as recorded:
        work()
        torch.cuda.synchronize()
    kernels = sorted(recorded.key_averages(), key=lambda k: -k.self_device_time_total)
    for kernel in kernels[:rows]:
        total = kernel.self_device_time_total / 1000
        print(f"    {total:8.2f} ms {kernel.count:5d} times  {kernel.key[:90]}", flush=True)


RUN = {"attention": attention_part, "products": products_part, "forward": forward_part}


def warm(size: Size, device: torch.device, share: int, shares: int) -> None:
    """Compile this process's share of the tilings, at the real shapes."""
    from hydra_model.fast import fp8_attention

    at = operands(size, device)
    fields = (at.key, at.value, at.memory_key, at.memory_value, at.selected, at.windows)
    for narrow, options in [(False, o) for o in list(tilings().values())[share::shares]] + [
        (True, o) for o in list(TILINGS.values())[share::shares]
    ]:
        tiling = fp8_attention.Tiling(**options)
        try:
            fp8_attention.retrieval_attention(at.query, *fields, tiling, narrow=narrow)
            if device.type == "cuda":
                torch.cuda.synchronize()
        except Exception as problem:
            print(f"    {tiling}: {type(problem).__name__}: {str(problem)[:160]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="where to write the results too")
    parser.add_argument("--compilers", type=int, default=min(16, os.cpu_count() or 1))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size, device = SIZES[options.size], torch.device(options.device)
    logging.basicConfig(level=logging.INFO, format="    %(message)s", stream=sys.stdout)
    if options.run and options.run.startswith("compile"):
        share, shares = options.run.split(":")[1].split("/")
        with torch.inference_mode():
            warm(size, device, int(share), int(shares))
        return 0
    if options.run:
        with torch.inference_mode():
            found = RUN[options.run](size, device)
        if options.json:
            options.json.write_text(json.dumps(found))
        return 0
    parts = options.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"unknown part {part!r}; accepted: {', '.join(PARTS)}")
    started = time.perf_counter()
    again = [sys.executable, "-m", "benchmarks.fp8", "--size", options.size,
             "--device", options.device, "--run"]  # fmt: skip
    if device.type == "cuda" and {"attention", "forward"} & set(parts):
        shares = options.compilers
        running = [subprocess.Popen([*again, f"compile:{i}/{shares}"]) for i in range(shares)]
        for process in running:
            try:
                process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                process.kill()
        print(f"compiled in {time.perf_counter() - started:.0f} s", flush=True)
    results, failed = {}, []
    for part in parts:
        file = Path(os.environ.get("TMPDIR", "/tmp")) / f"fp8_{os.getpid()}_{part}.json"
        try:
            subprocess.run([*again, part, "--json", str(file)], timeout=150, check=True)
            results[part] = json.loads(file.read_text())
        except (subprocess.SubprocessError, OSError) as problem:
            failed.append(part)
            print(f"{part} failed: {type(problem).__name__}", flush=True)
        finally:
            file.unlink(missing_ok=True)
    summary(results)
    print(f"{time.perf_counter() - started:.0f} s in all; failed: {', '.join(failed) or 'none'}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 1 if failed else 0


def summary(results: dict[str, dict[str, Any]]) -> None:
    """Print the best of each part, last."""
    print("\nin short")
    timed = {k: v for k, v in results.get("attention", {}).items() if "tflops" in v}
    for name in sorted(timed, key=lambda name: timed[name]["ms"])[:5]:
        values = timed[name]
        show(f"attention, {name}", f"{values['ms']:.3f} ms", f"{values['tflops']:.0f} TFLOP/s",
             f"{values['error']:.4f}")  # fmt: skip
    for name, values in results.get("products", {}).items():
        if isinstance(values, dict) and ("bf16" in name or name.endswith(("per row", "one scale"))):
            show(name, f"{values['ms']:.3f} ms")
    for name, values in results.get("forward", {}).items():
        show(f"forward, {name}", f"{values['ms']:.1f} ms", f"{values['error']:.4f}")


if __name__ == "__main__":
    sys.exit(main())
