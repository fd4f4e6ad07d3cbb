# SPDX-License-Identifier: Apache-2.0
"""The parts of the benchmark, each a list of rows for the report."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hydra_model.autoencoder_passes import residual_block
from hydra_model.benchmark.arithmetic import forward_operations
from hydra_model.benchmark.measure import GIB, measure, measure_in_turn, product_rate
from hydra_model.benchmark.subjects import forward_inputs, path
from hydra_model.benchmark.variants import READABLE, Variant, applied, readable, variants
from hydra_model.fast.decoding import compile_decoding
from hydra_model.fast.engine import Engine
from hydra_model.fast.team import Leader, Load, lead
from hydra_model.sampler_presets import sampler_preset
from hydra_model.world import World


@dataclass
class Results:
    """What was measured; ``rows`` by part."""

    about: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, part: str, **values: Any) -> None:
        self.rows.setdefault(part, []).append(values)
        told = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                         for k, v in values.items() if v not in ("", None))  # fmt: skip
        print(f"{part}: {told}", file=sys.stderr, flush=True)


def describe(world: World, results: Results) -> None:
    """Say what is measured, on what, and how fast a plain matrix product is there."""
    device, dtype = world.device, world.transformer.head.linear.weight.dtype
    text = world.config.text
    operations = forward_operations(world.config, text.max_tokens if text else 0)
    on_gpu = device.type == "cuda"
    results.about = {
        "model": world.config.name,
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "threads": torch.get_num_threads(),
        "number type": str(dtype).removeprefix("torch."),
        "PyTorch": torch.__version__,
        "product, TFLOP/s": product_rate(device, dtype),
        "forward, TFLOP": sum(operations.values()) / 1e12,
        "forward, TFLOP by part": {name: count / 1e12 for name, count in operations.items()},
    }


def run_forwards(
    world: World, results: Results, *, repeats: int, only: tuple[str, ...] = ()
) -> None:
    """Time one forward by every variant, and how far its velocity is from the readable one's.

    The readable path is timed again beside each of them, in turn; "times readable" is of these.
    """
    model, device = world.transformer, world.device
    inputs = forward_inputs(world)
    operations = results.about["forward, TFLOP"] * 1e12
    expected: Tensor | None = None
    for variant in variants(model, device, only):
        try:
            with applied(variant, model) as engine, torch.inference_mode():
                row = _forward(world, variant, inputs, repeats)
                velocity = model(inputs.target, inputs.sigma, inputs.conditioning).float()
        except Exception as error:  # a library that this machine lacks must not end the rest
            results.add("forward", variant=variant.name, failed=f"{type(error).__name__}: {error}")
            continue
        expected = velocity if expected is None else expected
        count = 2 if variant.paired else 1
        rate = count * operations / row["seconds"] / 1e12
        row["TFLOP/s"] = rate
        row["of a product"] = rate / results.about["product, TFLOP/s"]
        row["error"] = ((velocity - expected).norm() / expected.norm()).item()
        if isinstance(engine, Engine):
            row["attention"] = engine.joint.attention
            if engine.joint.trial:
                results.about["attention trial, ms"] = engine.joint.trial
        results.add("forward", variant=variant.name, **row)
        del engine, velocity
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _forward(world: World, variant: Variant, inputs: Any, repeats: int) -> dict[str, Any]:
    model, device = world.transformer, world.device
    target, sigma, own = inputs.target, inputs.sigma, inputs.conditioning

    def work() -> Any:
        if variant.paired:
            return model.pair(target, sigma, own, inputs.negative)
        return model(target, sigma, own)

    def beside() -> Any:
        with readable(model):
            return work()

    # Three: a forward is recorded when it is met for the third time.
    warm_up = 3 if device.type == "cuda" else 1
    if variant.name == READABLE:
        return asdict(measure(work, device, repeats=repeats, warm_up=warm_up))
    slow, fast = measure_in_turn(beside, work, device, repeats=repeats, warm_up=warm_up)
    return {**asdict(fast), "times readable": slow.seconds / fast.seconds,
            "readable seconds": slow.seconds}  # fmt: skip


def run_chunks(
    world: World, variant: Variant, results: Results, presets: tuple[str, ...], *, repeats: int
) -> None:
    """Time whole chunks by a variant with each sampler preset, from command to last frame.

    On a GPU every variant but the readable one decodes compiled, as ``World.load`` arranges it.
    """
    own, state = world.sampler, world.state()
    poses = path(world.config.chunk_frames, world.config.context_frames)
    seconds_shown = len(poses) / world.config.video.fps
    autoencoder, video = world.autoencoder, world.config.video
    if world.device.type == "cuda" and variant.name != READABLE:
        compile_decoding(autoencoder, video.height, video.width)
    with applied(variant, world.transformer):
        for preset in presets:
            world.sampler = sampler_preset(preset, own)
            with counted(world) as forwards:
                _warm_up(world, poses)
                rows = [_chunk(world, poses, forwards) for _ in range(repeats)]
            world.restore(state)
            row = {name: statistics.median(r[name] for r in rows) for name in rows[0]}
            results.add(
                "chunk", variant=variant.name, preset=preset, **row,
                **{"frames per second": len(poses) / row["seconds"],
                   "times real time": seconds_shown / row["seconds"]},
            )  # fmt: skip
    world.sampler = own
    autoencoder.decoder_block = residual_block


def _warm_up(world: World, poses: Any) -> None:
    state, own = world.state(), world.sampler
    world.sampler = sampler_preset("few_step", own)
    world.step(poses)
    world.sampler = own
    world.restore(state)


def _chunk(world: World, poses: Any, forwards: list[int]) -> dict[str, float]:
    state, device = world.state(), world.device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    shown: list[float] = []
    forwards[0] = 0
    wall, process = time.perf_counter(), time.process_time()
    chunk = world.step(poses, on_frames=lambda *_: shown.append(time.perf_counter()))
    seconds, process = time.perf_counter() - wall, time.process_time() - process
    world.restore(state)
    return {
        "seconds": seconds,
        "process_seconds": process,
        "to first frame": shown[0] - wall,
        "last step to first frame": chunk.timings["first_frame"],
        **{name: chunk.timings[name] for name in ("context", "sampling", "decoding")},
        "forwards": forwards[0],
        "peak_gib": torch.cuda.max_memory_allocated(device) / GIB if on_gpu else 0.0,
    }


def run_team(
    world: World, results: Results, load: Load, devices: list[torch.device], *, repeats: int
) -> None:
    """Time a forward and guidance's pair on several GPUs beside one, and their differences.

    ``load`` gives each process its engine, the leader too. The team is let go at the end.
    """
    model, inputs = world.transformer, forward_inputs(world)
    engine = load(devices[0])
    expected: dict[str, Tensor] = {}
    leader: Leader | None = None
    target, sigma, own, negative = (
        inputs.target, inputs.sigma, inputs.conditioning, inputs.negative,
    )  # fmt: skip
    work: dict[str, Callable[[], Tensor]] = {"forward": lambda: model(target, sigma, own)}
    if negative is not None:
        other = negative
        work["pair"] = lambda: torch.cat(model.pair(target, sigma, own, other))
    with torch.inference_mode():
        for count in (1, len(devices)):
            if count > 1:
                leader = lead(model, engine, load, devices)
            else:
                model.forward = engine.forward  # type: ignore[method-assign]
                model.pair = engine.pair  # type: ignore[method-assign]
            for name, run in work.items():
                found = measure(run, world.device, repeats=repeats)
                velocity = run().float()
                first = expected.setdefault(name, velocity)
                error = ((velocity - first).norm() / first.norm()).item()
                results.add("team", what=name, gpus=count, **asdict(found), error=error)
    if leader is not None:
        leader.stop()
        dist.destroy_process_group()
    for name in ("forward", "pair"):
        vars(model).pop(name, None)


class counted:
    """Counts a world's forwards within, in the first element of the list that it gives."""

    def __init__(self, world: World) -> None:
        self._model = world.transformer
        self._before = {name: vars(self._model).get(name) for name in ("forward", "pair")}

    def __enter__(self) -> list[int]:
        count = [0]
        forward, pair = self._model.forward, self._model.pair

        def counting(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            return forward(*arguments, **options)

        def counting_pair(*arguments: Any, **options: Any) -> Any:
            before = count[0]
            found = pair(*arguments, **options)
            count[0] = before + 2
            return found

        self._model.forward = counting  # type: ignore[method-assign]
        self._model.pair = counting_pair  # type: ignore[method-assign]
        return count

    def __exit__(self, *_: Any) -> None:
        for name, value in self._before.items():
            vars(self._model).pop(name, None)
            if value is not None:
                setattr(self._model, name, value)


def run_profile(world: World, variant: Variant, *, top: int = 25) -> Iterator[str]:
    """Yield lines that say which kernels a forward by a variant spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = world.device.type == "cuda"
    inputs = forward_inputs(world)
    with applied(variant, world.transformer), torch.inference_mode():
        arguments = (inputs.target, inputs.sigma, inputs.conditioning)
        world.transformer(*arguments)
        kinds = [ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
        with profile(activities=kinds) as seen:
            world.transformer(*arguments)
            if on_gpu:
                torch.cuda.synchronize(world.device)
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    averages = seen.key_averages()
    spent = [(getattr(e, order.replace("cuda", "device")), e.count, e.key) for e in averages]
    for microseconds, count, name in sorted(spent, reverse=True)[:top]:
        yield f"{microseconds / 1e3:10.2f} ms {count:6d} x  {name[:100]}"
