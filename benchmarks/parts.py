# SPDX-License-Identifier: Apache-2.0
"""The parts of ``full_size.py``, each measured by itself."""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from generated_weights import (
    autoencoder_weights,
    base_weights,
    model_config,
    text_weights,
    transformer_weights,
)
from safetensors.torch import save_file

from hydra_model.autoencoder import fastest_dtype
from hydra_model.checkpoints import (
    load_upstream_autoencoder,
    load_upstream_text_model,
    load_upstream_transformer,
    load_wan_base,
    save_model_folder,
)
from hydra_model.checkpoints.convert import AUTOENCODER_FILE, TEXT_FILE, TRANSFORMER_FILE
from hydra_model.config import ModelConfig

GIB = 2**30
SOURCE, MODEL, CLIPS = "released", "model", "clips"  # folders that are written


class Benchmark:
    """Runs the parts in one folder; ``results`` is (part, what) -> value with its unit."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        name = options.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(name)
        self.config = model_config(options.preset)
        self.results: dict[tuple[str, str], Any] = {}
        self.transformer: Any = None
        self.autoencoder: Any = None
        on_gpu = self.device.type == "cuda"
        gpu = torch.cuda.get_device_name(self.device) if on_gpu else "CPU"
        self.results["machine", "device"] = f"{gpu}, PyTorch {torch.__version__}"

    def run_files(self) -> None:
        """Write hydra.ckpt and Wan2.1_VAE.pth."""
        started = time.perf_counter()
        (self.folder / SOURCE).mkdir(exist_ok=True)
        for file, make, dtype in (
            (TRANSFORMER_FILE, transformer_weights, torch.bfloat16),
            (AUTOENCODER_FILE, autoencoder_weights, torch.float32),
        ):
            path = self.folder / SOURCE / file
            tensors = make(self.config, dtype, self.device)
            torch.save(tensors, path)
            self.results["files", f"{file}, GB"] = round(path.stat().st_size / 1e9, 3)
            numbers = sum(tensor.numel() for tensor in tensors.values())
            self.results["files", f"{file}, billion parameters"] = round(numbers / 1e9, 4)
        self.results["files", "writing, s"] = seconds_since(started)

    def run_load(self) -> None:
        """Load both with the strict loaders, onto the device."""
        config, source, device = self.config, self.folder / SOURCE, self.device
        dtype = fastest_dtype(device)
        with self.measured("load", "hydra.ckpt"):
            transformer = load_upstream_transformer(
                source / TRANSFORMER_FILE, config.transformer, dtype=dtype, device=device
            )
        with self.measured("load", "Wan2.1_VAE.pth"):
            autoencoder = load_upstream_autoencoder(
                source / AUTOENCODER_FILE, config.autoencoder, device=device
            ).prepare(device, dtype)
        self.transformer = transformer.requires_grad_(False).eval()
        self.autoencoder = autoencoder
        self.results["load", "number type"] = str(dtype).removeprefix("torch.")
        if device.type == "cuda":
            held = torch.cuda.memory_allocated(device)
            self.results["load", "both, GPU memory held, GiB"] = round(held / GIB, 2)

    def run_forward(self) -> None:
        """One forward of the transformer; encoding and decoding of one clip."""
        if self.transformer is None:
            self.run_load()
        config, device = self.config, self.device
        dtype = self.transformer.head.linear.weight.dtype
        stride = config.autoencoder.spatial_stride
        height, width = config.video.height // stride, config.video.width // stride
        shape = (1, config.autoencoder.latent_channels, config.chunk_latents, height, width)
        clean, noisy = torch.randn((2, *shape), device=device, dtype=dtype)
        camera = 0.1 * torch.randn(1, config.chunk_latents, 1, 12, device=device, dtype=dtype)
        assert config.text is not None
        text = torch.randn(1, config.text.max_tokens, config.text.dim, device=device, dtype=dtype)
        sigma = torch.tensor([0.7], device=device)
        times = torch.arange(config.chunk_latents, device=device)
        with torch.inference_mode():
            conditioning = self.transformer.prepare(
                clean, camera, camera, context_times=times, target_times=times, text=text
            )
            self.timed(
                "transformer", lambda: self.transformer(noisy, sigma, conditioning), repeats=3
            )
        frames = 1 + config.autoencoder.temporal_stride * (config.chunk_latents - 1)
        size = (1, 3, frames, config.video.height, config.video.width)
        video = torch.rand(size, device=device) * 2 - 1
        self.timed(f"encoding {frames} frames", lambda: self.autoencoder.encode(video))
        latents = torch.randn(shape, device=device)
        self.timed(f"decoding {frames} frames", lambda: self.autoencoder.decode(latents))
        self.results["forward", "shape"] = (
            f"{2 * config.chunk_latents} latent frames of {height}x{width}, {text.shape[1]} tokens"
        )

    def run_node(self) -> None:
        """Write a model folder, start the node with it, command a path over DDS."""
        from node_run import drive_node, write_clip  # ROS, which the other parts do without

        self.free()
        started = time.perf_counter()
        write_model_folder(self.folder, self.config)
        self.results["node", "converting to a model folder, s"] = seconds_since(started)
        write_clip(self.folder / CLIPS, self.config)
        measured: dict[str, Any] = {}
        try:
            drive_node(
                self.folder / MODEL,
                self.folder / CLIPS,
                self.config,
                str(self.device),
                log=self.folder / "node.log",
                sampling_steps=self.options.sampling_steps,
                paths=self.options.paths,
                timeout=self.options.timeout,
                results=measured,
            )
        finally:
            self.results.update({("node", what): value for what, value in measured.items()})
        wanted = self.options.paths * self.config.chunk_frames
        if self.results["node", "frames received"] != wanted:
            raise RuntimeError(f"{wanted} frames were commanded")
        if code := self.results["node", "exit code after SIGINT"]:
            raise RuntimeError(f"the node ended with exit code {code}")

    def run_text(self) -> None:
        """The umT5 encoder: write, load, encode 512 tokens."""
        assert self.config.text is not None
        self.free()
        (self.folder / SOURCE).mkdir(exist_ok=True)
        path = self.folder / SOURCE / TEXT_FILE
        started = time.perf_counter()
        torch.save(text_weights(self.config, torch.bfloat16, self.device), path)
        self.results["text", "writing, s"] = seconds_since(started)
        self.results["text", f"{TEXT_FILE}, GB"] = round(path.stat().st_size / 1e9, 3)
        with self.measured("text", TEXT_FILE):
            model = load_upstream_text_model(path, self.config.text, device=self.device)
        tokens = self.config.text.max_tokens
        ids = torch.randint(0, self.config.text.vocab_size, (1, tokens), device=self.device)
        mask = torch.ones_like(ids)
        with torch.inference_mode():
            self.timed(
                f"{tokens} tokens",
                lambda: model(input_ids=ids, attention_mask=mask).last_hidden_state,
                part="text",
            )
        path.unlink()

    def run_base(self) -> None:
        """The Wan base in safetensors, which training starts from: write and load."""
        self.free()
        (self.folder / SOURCE).mkdir(exist_ok=True)
        path = self.folder / SOURCE / "diffusion_pytorch_model.safetensors"
        save_file(base_weights(self.config, torch.bfloat16, self.device), path)
        self.results["base", f"{path.name}, GB"] = round(path.stat().st_size / 1e9, 3)
        with self.measured("base", path.name):
            load_wan_base(path, self.config.transformer, device=self.device)
        path.unlink()

    def free(self) -> None:
        """Let the device's memory go."""
        self.transformer = self.autoencoder = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def measured(self, part: str, what: str) -> Iterator[None]:
        """Note seconds and peak memory of what runs inside."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
        started = time.perf_counter()
        yield
        if on_gpu:
            torch.cuda.synchronize(self.device)
        self.results[part, f"{what}, s"] = seconds_since(started)
        if on_gpu:
            peak = torch.cuda.max_memory_allocated(self.device)
            self.results[part, f"{what}, peak GPU memory, GiB"] = round(peak / GIB, 2)

    def timed(
        self, what: str, run: Callable[[], Any], *, repeats: int = 1, part: str = "forward"
    ) -> None:
        """Run once to warm up, then ``repeats`` times; note the median and that all is finite."""
        with self.measured(part, f"{what}, first time"):
            finite = bool(run().isfinite().all())
        seconds = []
        for _ in range(repeats):
            with self.measured(part, what):
                result = run()
            seconds.append(self.results[part, f"{what}, s"])
            finite = finite and bool(result.isfinite().all())
        self.results[part, f"{what}, s"] = statistics.median(seconds)
        if not finite:
            raise RuntimeError(f"{what}: the output is not finite")


def write_model_folder(folder: Path, config: ModelConfig) -> None:
    """Convert the written files to a model folder, without a text encoder."""
    source = folder / SOURCE
    save_model_folder(
        folder / MODEL,
        config,
        transformer=load_upstream_transformer(source / TRANSFORMER_FILE, config.transformer),
        autoencoder=load_upstream_autoencoder(source / AUTOENCODER_FILE, config.autoencoder),
    )


def seconds_since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
