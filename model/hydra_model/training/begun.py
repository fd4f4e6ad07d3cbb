# SPDX-License-Identifier: Apache-2.0
"""With which model the run in a folder was begun: it goes on with that one alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra_model.config import ModelConfig

# What there is once a part of a run has begun, by the model folder that the part makes.
_STATES = {
    "model": ("autoencoder.run", "transformer.run", "checkpoint-*", "model/config.json"),
    "few-step": ("few_step.run",),
    "with-foresight": ("foresight.run",),
}
# What weights do not depend on, or what training itself measures.
_FREE = ("name", "sampler.", "autoencoder.latents_")


def check_begun(
    folder: Path,
    config: ModelConfig,
    *,
    part: str = "model",
    free: tuple[str, ...] = (),
    keep: bool = True,
) -> None:
    """Raise ``ValueError`` where a run goes on in ``folder`` with another model than before.

    ``part`` is "model", "few-step" or "with-foresight", ``free`` are beginnings of fields that may
    differ. A run that begins writes down its ``config`` if it is to ``keep`` it; runs from before
    that was done are held to the model folder that they have made.
    """
    own = folder / f"{part}.begun.json"
    if any(True for pattern in _STATES[part] for _ in folder.glob(pattern)):
        begun = next((p for p in (own, folder / part / "config.json") if p.is_file()), None)
        if begun is not None:
            _compare(folder, begun, config, (*_FREE, *free))
    elif keep:
        folder.mkdir(parents=True, exist_ok=True)
        own.with_suffix(".partial").write_text(config.to_json(), encoding="utf-8")
        os.replace(own.with_suffix(".partial"), own)


def _compare(folder: Path, begun: Path, config: ModelConfig, free: tuple[str, ...]) -> None:
    try:
        was = _fields(ModelConfig.from_json(begun.read_text(encoding="utf-8")).to_dict())
    except ValueError as error:
        raise ValueError(f"{begun}: {error}") from error
    now = _fields(config.to_dict())
    different = [
        f"{name} is {now.get(name)} and was {was.get(name)}"
        for name in sorted(now.keys() | was.keys())
        if now.get(name) != was.get(name) and not name.startswith(free)
    ]
    if different:
        raise ValueError(
            f"the run in {folder} was begun with another model: {', '.join(different)}; accepted: "
            f"the model of {begun}, or another folder"
        )


def _fields(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Return nested values by their whole names, such as "transformer.dim"."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        name = where + key
        result |= _fields(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result
