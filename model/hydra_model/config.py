# SPDX-License-Identifier: Apache-2.0
"""Typed configurations and the named presets; every size of the model is decided here."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from hydra_model.typed_values import build, check

Camera = Literal["matrix", "rays", "sweep"]
Solver = Literal["euler", "dpm++", "unipc"]
SOLVER_NAMES = get_args(Solver)
WorldStyle = Literal["plain", "rich"]  # of procedural worlds, see hydra_model.procedural.scenes

# How a model may be run (hydra_model.fast.acceleration says what is behind the names).
ACCELERATIONS = ("auto", "reference", "exact", "fp8")


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Frame size in pixels, frame rate in Hz and horizontal field of view in degrees."""

    height: int = 480
    width: int = 832
    fps: float = 15.0
    fov_x_degrees: float = 90.0

    def __post_init__(self) -> None:
        check(self, "1 or more", "height", "width")
        check(self, "above 0", "fps", "fov_x_degrees")
        if self.fov_x_degrees >= 180:
            raise ValueError(f"fov_x_degrees is {self.fov_x_degrees}; accepted: below 180")

    @property
    def fov_x(self) -> float:
        """Horizontal field of view in radians."""
        return math.radians(self.fov_x_degrees)


# Statistics of the Wan 2.1 latent space, per channel (published with the Wan 2.1 autoencoder).
WAN_LATENTS_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
WAN_LATENTS_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """A Wan autoencoder of any width.

    ``patch_size`` folds pixels into channels before the first convolution, which makes a
    small autoencoder cheap on a CPU; the released one uses 1.
    """

    latent_channels: int = 16
    base_dim: int = 96
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    patch_size: int = 1
    latents_mean: tuple[float, ...] = WAN_LATENTS_MEAN
    latents_std: tuple[float, ...] = WAN_LATENTS_STD

    def __post_init__(self) -> None:
        check(
            self, "1 or more",
            "latent_channels", "base_dim", "dim_mult", "num_res_blocks", "patch_size",
        )  # fmt: skip
        check(self, "above 0", "latents_std")
        for name in ("latents_mean", "latents_std"):
            count = len(getattr(self, name))
            if count != self.latent_channels:
                raise ValueError(
                    f"{name} has {count} values; accepted: latent_channels, {self.latent_channels}"
                )

    @property
    def spatial_stride(self) -> int:
        """Pixels per latent position along one image axis."""
        return 2 ** (len(self.dim_mult) - 1) * self.patch_size

    @property
    def temporal_stride(self) -> int:
        """Video frames per latent frame, after the first."""
        return 2 ** sum(self.temporal_downsample)


@dataclass(frozen=True, kw_only=True)
class DetailConfig:
    """The second, finer scale of a transformer (``hydra_model.detail``): sizes as there.

    A token stands for one latent position; each frame attends to itself and to the first
    ``top_k`` of the context frames that the last coarse block retrieved.
    """

    dim: int = 192
    num_heads: int = 3
    ffn_dim: int = 768
    num_blocks: int = 3
    top_k: int = 6

    def __post_init__(self) -> None:
        check(self, "1 or more", "dim", "num_heads", "ffn_dim", "num_blocks", "top_k")


@dataclass(frozen=True, kw_only=True)
class SceneFlowConfig:
    """How memory's keys and values follow what they show (``hydra_model.scene_flow``).

    It is read off what block ``after`` makes of the context, by a layer of ``hidden`` channels,
    for ``reach`` latent frames of the target. The last ``num_blocks`` blocks and those of a
    detail scale retrieve by it, from keys of what moves by itself times ``emphasis``: above 1
    it is attended to more, where a model hesitates to show what it knows of motion. So many
    subjects as there are ``tracks`` are followed one by one (``hydra_model.foresight``; 0: none),
    and where one is in the picture with a probability above ``seen_from``, it is told to be there.
    Then only followed subjects are emphasised, as far as it is sure where they will be.
    """

    after: int = 8
    hidden: int = 384
    reach: float = 18.75
    num_blocks: int = 4
    emphasis: float = 1.0
    tracks: int = 0
    seen_from: float = 0.3


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """HyDRA's transformer (paper, section 3; released code where they differ).

    ``memory_source`` is "all" for the released weights (memory is made from all frames,
    the noisy target too, and every frame retrieves) and "context" for the paper's form
    (memory is made from the clean context, only target frames retrieve, and the context is
    computed once per chunk). ``camera`` is "matrix" (one 12-vector per latent frame) or
    "rays" (viewing rays per token) or "sweep" (those, and where the token's ray was one latent
    frame earlier: a latent frame stands for several video frames, over which a camera may turn
    far). ``relevance`` is "pooled" (released code: means over a
    frame, unscaled) or "positionwise" (paper: queries pooled to the memory grid, compared
    position by position, scaled by 1/sqrt(dim)) or "attended" (ours: the share of the softmax
    that a frame would get, estimated with queries pooled over 2x2 tokens). ``time_positions`` is
    "slot" (0, 1, 2, ... in the
    order of the frames) or "time" (latent-frame units since the chunk's first frame, so
    that gaps in the memory are seen as gaps). ``space_positions`` is "grid" (a token's row and
    column) or "rays" (half of a head's channel pairs for rows and columns turn with the
    elevation and azimuth of the token's viewing ray instead, so that tokens that look the same
    way are found whatever the camera did in between). ``value_positions`` is "none", or "rays":
    values too are turned, by time and viewing ray, and what is attended is turned back by the
    query's, so that a token is told how far away what it retrieves was (as in GTA,
    arXiv 2310.10375). ``text_dim`` 0 leaves out the text,
    ``tokenizer_groups`` above 1 makes the tokenizer a grouped convolution, and ``projector``
    False leaves out the projector (it can be folded into the output product anyway). ``detail``
    adds a second scale, whose tokens are single latent positions (ours; None leaves it out).
    ``scene_flow`` lets memory stand where its content will be seen (ours; None leaves it where
    it was seen).
    """

    dim: int = 1536
    num_heads: int = 12
    ffn_dim: int = 8960
    num_blocks: int = 30
    freq_dim: int = 256
    text_dim: int = 4096
    latent_channels: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    memory_source: Literal["all", "context"] = "all"
    memory_stride: tuple[int, int, int] = (2, 2, 2)
    relevance: Literal["pooled", "positionwise", "attended"] = "pooled"
    tokenizer_groups: int = 1
    projector: bool = True
    window: int = 5
    top_k: int = 10
    camera: Camera = "matrix"
    time_positions: Literal["slot", "time"] = "slot"
    space_positions: Literal["grid", "rays"] = "grid"
    value_positions: Literal["none", "rays"] = "none"
    rope_theta: float = 10000.0
    detail: DetailConfig | None = None
    scene_flow: SceneFlowConfig | None = None

    def __post_init__(self) -> None:
        check(
            self, "1 or more", "dim", "num_heads", "ffn_dim", "num_blocks", "freq_dim",
            "latent_channels", "patch_size", "memory_stride", "tokenizer_groups", "window", "top_k",
        )  # fmt: skip
        check(self, "above 0", "rope_theta")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of num_heads {self.num_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even for rotary positions")
        if self.patch_size[0] != 1:
            raise ValueError(f"patch_size {self.patch_size}: only 1 is accepted along time")
        if self.camera not in get_args(Camera):
            accepted = ", ".join(get_args(Camera))
            raise ValueError(f"camera is {self.camera!r}; accepted: {accepted}")
        if self.relevance == "attended" and self.memory_source != "context":
            raise ValueError(
                f"relevance 'attended' needs memory_source 'context', got {self.memory_source!r}"
            )
        if self.value_positions == "rays" and self.space_positions != "rays":
            raise ValueError(
                f"value_positions 'rays' needs space_positions 'rays', got {self.space_positions!r}"
            )
        if self.space_positions == "rays" and (
            self.camera == "matrix" or self.memory_source != "context"
        ):
            raise ValueError(
                "space_positions 'rays' needs camera 'rays' or 'sweep' and memory_source "
                f"'context', got {self.camera!r} and {self.memory_source!r}"
            )
        if self.detail is not None and self.space_positions != "rays":
            raise ValueError(
                f"a detail scale needs space_positions 'rays', got {self.space_positions!r}"
            )
        if self.scene_flow is not None:
            self._check_scene_flow(self.scene_flow)

    def _check_scene_flow(self, own: SceneFlowConfig) -> None:
        if self.space_positions != "rays" or self.time_positions != "time":
            raise ValueError(
                "scene_flow needs space_positions 'rays' and time_positions 'time', got "
                f"{self.space_positions!r} and {self.time_positions!r}"
            )
        if self.memory_stride != (1, 1, 1):
            raise ValueError(
                f"scene_flow needs memory_stride (1, 1, 1), got {self.memory_stride}"
            )
        most = self.num_blocks
        if not 1 <= own.after <= most:
            raise ValueError(f"scene_flow.after is {own.after}; accepted: 1 to {most}")
        if not 0 <= own.num_blocks < most:  # one that chooses frames has to come before them
            raise ValueError(
                f"scene_flow.num_blocks is {own.num_blocks}; accepted: 0 to {most - 1}"
            )
        if own.reach <= 0:
            raise ValueError(f"scene_flow.reach is {own.reach}; accepted: above 0")
        if own.emphasis <= 0:
            raise ValueError(f"scene_flow.emphasis is {own.emphasis}; accepted: above 0")
        if own.tracks < 0:
            raise ValueError(f"scene_flow.tracks is {own.tracks}; accepted: 0 or more")
        if not 0 <= own.seen_from <= 1:
            raise ValueError(f"scene_flow.seen_from is {own.seen_from}; accepted: 0 to 1")
        if own.tracks and self.detail is None:
            raise ValueError(
                f"scene_flow.tracks is {own.tracks}; subjects are followed at latent positions: "
                "that needs a detail scale"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """umT5 prompt embeddings (XXL by default); rows past the prompt's length are zero."""

    vocab_size: int = 256384
    dim: int = 4096
    ffn_dim: int = 10240
    num_heads: int = 64
    num_blocks: int = 24
    num_buckets: int = 32
    max_tokens: int = 512


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Flow-matching sampler: steps, time shift, classifier-free guidance, and what it may spare.

    ``guidance_scale`` 1 means one forward per step; above 1 every step also runs the
    ``negative_prompt``, where the noise share lies in ``guidance_interval`` (both ends count).
    ``round_timestep`` rounds 1000 * sigma to the transformer's number type before it is
    embedded, as the released pipeline does in bfloat16. ``solver`` is "euler" (first order, the
    released one), "dpm++" or "unipc" (second order, one forward a step too). A step whose
    velocity is estimated to have changed by less than ``cache_threshold``, relative to its
    length, reuses the last one; 0 never does. ``temperature`` is what the noise that sampling
    starts from is multiplied by: below 1 what is shown is nearer to what is expected, and one
    sample differs less from another.
    """

    steps: int = 50
    shift: float = 5.0
    guidance_scale: float = 5.0
    negative_prompt: str = ""
    round_timestep: bool = True
    solver: Solver = "euler"
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    cache_threshold: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampler steps is {self.steps}; at least 1 is needed")
        if self.shift <= 0:
            raise ValueError(f"sampler shift is {self.shift}; it must be above 0")
        if self.solver not in SOLVER_NAMES:
            accepted = ", ".join(SOLVER_NAMES)
            raise ValueError(f"sampler solver is {self.solver!r}; accepted: {accepted}")
        if self.cache_threshold < 0:
            raise ValueError(f"cache_threshold is {self.cache_threshold}; accepted: 0 or more")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; accepted: 0 or more")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything a model folder's ``config.json`` says.

    ``world_style`` names the procedural worlds that the model was trained on.
    """

    name: str
    video: VideoConfig = field(default_factory=VideoConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    text: TextConfig | None = field(default_factory=TextConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    context_latents: int = 20
    chunk_latents: int = 20
    world_style: WorldStyle = "plain"

    def __post_init__(self) -> None:
        check(self, "1 or more", "context_latents", "chunk_latents")
        if self.world_style not in get_args(WorldStyle):
            accepted = ", ".join(get_args(WorldStyle))
            raise ValueError(f"world_style is {self.world_style!r}; accepted: {accepted}")

    @classmethod
    def from_name(cls, name: str) -> ModelConfig:
        """Return a named preset; a wrong name lists the right ones."""
        if name not in PRESETS:
            raise ValueError(
                f"unknown model preset {name!r}; accepted: {', '.join(sorted(PRESETS))}"
            )
        return PRESETS[name]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Build from plain dicts as ``to_dict`` writes them; an unknown field is an error."""
        return build(cls, values)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"model config is not JSON: {error}") from error
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @property
    def chunk_frames(self) -> int:
        """Video frames of the longest chunk."""
        return 1 + self.autoencoder.temporal_stride * (self.chunk_latents - 1)

    @property
    def context_frames(self) -> int:
        """Video frames of one full context clip."""
        return 1 + self.autoencoder.temporal_stride * (self.context_latents - 1)


# The small model that ships with the package: it runs on a CPU and knows the procedural world.
DEFAULT = ModelConfig(
    name="default",
    video=VideoConfig(height=96, width=160, fps=15.0, fov_x_degrees=70.0),
    autoencoder=AutoencoderConfig(
        latent_channels=12,
        base_dim=32,
        dim_mult=(1, 2, 4),
        num_res_blocks=1,
        temporal_downsample=(True, True),
        patch_size=2,
        latents_mean=(0.0,) * 12,
        latents_std=(1.0,) * 12,
    ),
    transformer=TransformerConfig(
        dim=384,
        num_heads=6,
        ffn_dim=1536,
        num_blocks=12,
        freq_dim=256,
        text_dim=0,
        latent_channels=12,
        memory_source="context",
        # The grid is 6x10 tokens: pooled by 2x2, a memory token would cover a third of the
        # image's height. The less is pooled, the faster the loss falls (docs/training.md).
        memory_stride=(1, 1, 1),
        relevance="attended",
        tokenizer_groups=8,
        projector=False,
        window=5,
        top_k=8,
        camera="sweep",
        time_positions="time",
        space_positions="rays",
        value_positions="rays",
        detail=DetailConfig(),
        scene_flow=SceneFlowConfig(),
    ),
    text=None,
    sampler=SamplerConfig(steps=2, shift=3.0, guidance_scale=1.0, round_timestep=False),
    world_style="rich",
)

# The released model: Wan2.1-T2V-1.3B with HyDRA's memory, in the form of the released code.
HYDRA_1_3B = ModelConfig(name="hydra-1.3b")

PRESETS = {config.name: config for config in (DEFAULT, HYDRA_1_3B)}
