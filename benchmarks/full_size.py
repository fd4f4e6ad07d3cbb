# SPDX-License-Identifier: Apache-2.0
"""The released model at full size with generated weights: loading, one forward, the real node.

The weights mean nothing, but every tensor has its released name, shape and type, so times and
memory are the real ones. ``--preset miniature --device cpu`` runs the same on any machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARTS = ("files", "load", "forward", "node", "text", "base")
DEFAULT_PARTS = "files,load,forward,node"


def main() -> int:
    options = parse_arguments()
    if "node" in options.parts:
        prepare_ros()
    import torch
    from parts import Benchmark

    torch.manual_seed(0)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hydra_full_size_"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Benchmark(options, folder)
    failed = []
    try:
        for part in options.parts:
            print(f"{part} ...", flush=True)
            try:
                getattr(bench, f"run_{part}")()
            except Exception as error:  # the other parts are worth their own run
                traceback.print_exc()
                bench.results[part, "failed"] = f"{type(error).__name__}: {error}"
                failed.append(part)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print_table(bench.results)
    if options.json:
        nested: dict[str, dict[str, Any]] = {}
        for (part, what), value in bench.results.items():
            nested.setdefault(part, {})[what] = value
        options.json.write_text(json.dumps(nested, indent=2) + "\n")
    return 1 if failed else 0


def prepare_ros() -> None:
    """Import rclpy first of all: the ROS wheels start Python anew on their first import."""
    try:
        from hydra_ros.environment import use_dds_profile

        use_dds_profile()
        import rclpy  # noqa: F401
    except ImportError as error:
        print(f"node will fail: {error}", file=sys.stderr)  # the other parts need no ROS


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the files here (default: none are kept)")
    parser.add_argument("--preset", default="hydra-1.3b", choices=("hydra-1.3b", "miniature"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--sampling-steps", type=int, default=4, help="in the node's chunks")
    parser.add_argument("--paths", type=int, default=1, help="paths to command, one after another")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds to wait for the node")
    parser.add_argument("--json", type=Path, help="write the results here as well")
    parser.add_argument(
        "--parts", default=DEFAULT_PARTS, help=f"comma-separated, of {', '.join(PARTS)}"
    )
    options = parser.parse_args()
    options.parts = [part for part in options.parts.split(",") if part]
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; accepted: {', '.join(PARTS)}")
    return options


def print_table(results: Mapping[tuple[str, str], Any]) -> None:
    widths = [max(len(key[i]) for key in results) for i in range(2)]
    print()
    for (part, what), value in results.items():
        print(f"{part:{widths[0]}}  {what:{widths[1]}}  {value}")


if __name__ == "__main__":
    sys.exit(main())
