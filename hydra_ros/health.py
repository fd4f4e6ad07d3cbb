# SPDX-License-Identifier: Apache-2.0
"""What the simulator needs of this machine, one check after another."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hydra_ros.environment import PROFILE_VARIABLES, share_folder, use_dds_profile
from hydra_ros.loopback import image_round_trip

GIB = 1024**3
MIB = 1024**2

# Packages that add something where they are installed, and what.
OPTIONAL_PACKAGES = {
    "tf2_msgs": "transforms",
    "tf2_ros": "poses of observations from transforms",
    "simulation_interfaces": "simulation control services",
    "launch_ros": "launch files",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; with "fail" the simulator cannot run."""

    level: Literal["ok", "warn", "fail"]
    text: str
    hint: str = ""


def check_python() -> Finding:
    text = f"{platform.python_version()} at {sys.executable}"
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        return Finding("fail", text, "use Python 3.10, 3.11 or 3.12")
    return Finding("ok", text)


def check_torch() -> Finding:
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return Finding("ok", f"{torch.__version__} ({build}), {torch.get_num_threads()} threads")


def check_gpu() -> Finding:
    import torch

    from hydra_model.fast.attention import FLASH3

    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
        if driver and not torch.version.cuda:
            hint = "there is an NVIDIA driver: install a CUDA build of PyTorch to use it"
        elif driver:
            hint = f"PyTorch is for CUDA {torch.version.cuda}: is the driver new enough for it?"
        else:
            hint = "the default model runs on the CPU; hydra-1.3b needs a GPU"
        return Finding("warn", "none that PyTorch can use", hint)
    device = torch.cuda.get_device_properties(0)
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    text = (
        f"{device.name}, {device.total_memory / GIB:.0f} GiB, compute capability "
        f"{device.major}.{device.minor}, {'bf16' if bf16 else 'no bf16'}"
    )
    torch.ones(8, device="cuda").sum().item()  # raises where the build has no code for this GPU
    if (more := torch.cuda.device_count() - 1) > 0:
        text += f" (and {more} more)"
    if device.major == 9 and importlib.util.find_spec(FLASH3) is None:
        hint = "the package flash-attn-3 would speed up hydra-1.3b here (docs/performance.md)"
        return Finding("ok", text, hint)
    return Finding("ok", text)


def check_cpu() -> Finding:
    import torch

    facts: dict[str, str] = {}
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        facts = {name.strip(): value.strip() for name, value in pairs}
    flags = facts.get("flags", facts.get("Features", "")).split()
    # The names of x86 and of ARM.
    fast = [name for name in ("avx512_bf16", "amx_bf16", "bf16", "i8mm") if name in flags]
    name = facts.get("model name", platform.machine())
    capability = torch.backends.cpu.get_cpu_capability()
    text = f"{name}, {os.cpu_count()} cores, PyTorch uses {capability}"
    return Finding("ok", ", ".join([text, *fast]))


def check_weights() -> Finding:
    from safetensors import safe_open

    from hydra_model.config import ModelConfig
    from hydra_model.resources import weights_folder

    hint = "clone again with the weights, or train: hydra-ros train --help"
    try:
        folder = weights_folder()
    except FileNotFoundError as error:
        return Finding("fail", str(error), hint)
    files, configs = sorted(folder.rglob("*.safetensors")), list(folder.rglob("config.json"))
    if not files or not configs:
        return Finding("fail", f"no .safetensors files with a config.json in {folder}", hint)
    described = []
    for path in files:
        with safe_open(path, "pt") as tensors:
            count = len(list(tensors.keys()))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        size = path.stat().st_size / MIB
        described.append(f"{path.name}: {count} tensors, {size:.0f} MiB, sha256 {digest}")
    for config in configs:
        ModelConfig.from_json(config.read_text())
    return Finding("ok", "; ".join(described))


def check_ros() -> Finding:
    hint = "install the package with pip, or build it with colcon and source install/setup.bash"
    try:
        import rclpy
        from rclpy.type_support import check_for_type_support

        service = importlib.import_module("hydra_ros.srv").Reset
    except ImportError as error:
        return Finding("fail", str(error), hint)
    check_for_type_support(service)
    distribution = os.environ.get("ROS_DISTRO", "from Python wheels")
    missing = [
        f"{name} ({what})"
        for name, what in OPTIONAL_PACKAGES.items()
        if importlib.util.find_spec(name) is None
    ]
    text = f"rclpy in {Path(rclpy.__file__).parent}, {distribution}; interfaces load"
    return Finding("ok", text + (f"; without {', '.join(missing)}" if missing else ""))


def check_dds_profile() -> Finding:
    middleware = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    profile = use_dds_profile()
    if profile is None:
        chosen = os.environ.get("FASTDDS_BUILTIN_TRANSPORTS")
        text = f"{middleware}" + (f" with FASTDDS_BUILTIN_TRANSPORTS={chosen}" if chosen else "")
        return Finding("warn", text, "large images may get lost; see config/fastdds.xml")
    if not profile.is_file():
        hint = f"correct or unset {' and '.join(PROFILE_VARIABLES)}"
        return Finding("fail", f"{profile} does not exist", hint)
    if profile != share_folder("config", "fastdds.xml"):
        return Finding("ok", f"{profile} (your own)")
    return Finding("ok", f"{profile}; other nodes need it too")


def check_shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("ok", "not used on this system")
    free = shutil.disk_usage(folder).free / MIB
    text = f"{free:.0f} MiB free in {folder}"
    if free < 200:
        return Finding(
            "warn", text, "each process takes 32 MiB; in Docker: --shm-size=1g or --ipc=host"
        )
    return Finding("ok", text)


def check_dds() -> Finding:
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    hint = f"two processes of ROS domain {domain} cannot talk: firewall, or another DDS profile?"
    try:
        trip = image_round_trip(count=10)
    except TimeoutError as error:
        return Finding("fail", str(error), hint)
    text = (
        f"{trip.received} of {trip.sent} images (832x480) came back from another process, "
        f"{1e3 * trip.median_s:.1f} ms there and back; found after {trip.discovery_s:.1f} s"
    )
    if trip.received == 0:
        return Finding("fail", text, hint)
    return Finding("ok" if trip.received == trip.sent else "warn", text)


def check_video() -> Finding:
    import numpy as np

    from hydra_model.video import read_video, write_video

    frames = np.zeros((5, 96, 160, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        codec = write_video(path, frames, 15.0)
        back, _ = read_video(path)
    if len(back) != len(frames):
        return Finding("warn", f"{len(frames)} frames were written, {len(back)} read back")
    if codec != "libx264":
        hint = "browsers do not play it; install PyAV (pip install av) for H.264"
        return Finding("warn", f"videos are written as {codec}", hint)
    return Finding("ok", f"videos are written as {codec}")


def check_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    text = f"{free:.0f} GiB free in {Path.cwd()}"
    if free < 2:
        return Finding("warn", text, "videos and bags need room")
    return Finding("ok", text)


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "PyTorch": check_torch,
    "GPU": check_gpu,
    "CPU": check_cpu,
    "weights": check_weights,
    "ROS 2": check_ros,
    "DDS profile": check_dds_profile,
    "shared memory": check_shared_memory,
    "DDS": check_dds,
    "video": check_video,
    "disk": check_disk,
}


def check_all(names: list[str] | None = None) -> Iterator[tuple[str, Finding]]:
    """Yield (name, finding) one by one; a check that raises is a failed one."""
    for name in names or CHECKS:
        try:
            yield name, CHECKS[name]()
        except Exception as error:  # whatever is broken must not hide the other lines
            yield name, Finding("fail", f"{type(error).__name__}: {error}")
