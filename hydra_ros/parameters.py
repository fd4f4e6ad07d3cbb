# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node, once: name, type, default, range and description.

``Settings`` is the one table. The node declares its parameters from it and reads them back
into it; ``python -m hydra_ros.parameters`` prints it as a Markdown table, with ``--yaml`` as
the file ``config/default.yaml``.
"""

from __future__ import annotations

import dataclasses
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra_model.config import ACCELERATIONS
from hydra_model.sampler_presets import EXACT, SAMPLER_PRESETS
from hydra_ros.parameter import Parameter, parameter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rclpy.node import Node
    from rclpy.parameter import Parameter as RosParameter

HIGHEST_SEED = 2**63 - 1
FRAMES = ("world_frame", "camera_frame", "optical_frame")


class ParameterError(ValueError):
    """A value that the table does not accept, or that does not go with another."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of all parameters at one time.

    Raises:
        ParameterError: two frames have one name, or one has none.
    """

    mode: str = parameter(
        "lockstep",
        """lockstep: time advances only with commands, one commanded pose is one frame, and the
        same commands give the same frames. realtime: time follows the wall clock, and the last
        command is followed or held.""",
        choices=("lockstep", "realtime"),
        read_only=True,
    )
    model: str = parameter(
        "default", "Weights: 'default' or the path of a model folder.", read_only=True
    )
    device: str = parameter(
        "auto", "Device the model runs on: auto, cpu, cuda, cuda:1, ...", read_only=True
    )
    dtype: str = parameter(
        "auto",
        "Number format the model runs in.",
        choices=("auto", "float32", "bfloat16", "float16"),
        read_only=True,
    )
    sampler_steps: int = parameter(
        0,
        "Sampling steps per chunk; 0 takes the model's own number.",
        minimum=0,
        maximum=1000,
        read_only=True,
    )
    sampler_temperature: float = parameter(
        -1.0,
        """What the noise that sampling starts from is multiplied by: the lower, the nearer to what
        is expected, and the less futures of one path differ (at 0 not at all). Below 0 it is the
        model's own.""",
        minimum=-1.0,
        maximum=2.0,
        read_only=True,
    )
    sampler_preset: str = parameter(
        EXACT,
        """What sampling may spare: nothing, or more and more of its forwards (docs/performance.md).
        sampler_steps, if given, replaces the preset's number of steps.""",
        choices=SAMPLER_PRESETS,
        read_only=True,
    )
    acceleration: str = parameter(
        "auto",
        """How the model runs: reference is the readable path, exact what is fastest with the
        same result up to rounding, fp8 also multiplies in 8 bits, auto is exact. What the device
        lacks is replaced by the nearest that it has.""",
        choices=ACCELERATIONS,
        read_only=True,
    )
    gpus: int = parameter(
        1,
        "GPUs of this host that the released model runs on together; those missing are left out.",
        minimum=1,
        maximum=64,
        read_only=True,
    )
    text_encoder_device: str = parameter(
        "auto",
        """Where prompts that were not seen before are encoded: auto is the model's device, for a
        moment; cpu leaves its memory alone.""",
        choices=("auto", "cpu"),
        read_only=True,
    )
    tiny_decoder: str = parameter(
        "",
        """File of a small decoder that makes the pictures instead of the autoencoder's: TAEHV for
        Wan 2.1 (taew2_1.pth or .safetensors), for the released model only. Faster and blurrier.
        Empty: none.""",
        read_only=True,
    )
    autostart: bool = parameter(
        True,
        """Configure and activate by itself when the node starts; false leaves the transitions
        to a lifecycle manager.""",
        read_only=True,
    )
    start_source: str = parameter(
        "procedural",
        """World started on the first activation and by a reset without a source: 'procedural',
        the name of a clip in clips_folder, 'state:NAME' for a saved state, or 'none' (activation
        starts no world).""",
    )
    seed: int = parameter(
        0,
        "Seed of that world: its scene, if procedural, and the sampler's noise.",
        minimum=0,
        maximum=HIGHEST_SEED,
    )
    prompt: str = parameter(
        "", "Caption of that world; empty takes the clip's own caption, if it has one."
    )
    procedural_family: str = parameter(
        "look_away",
        "Kind of scene and camera path a procedural world starts from.",
        # As in hydra_model.procedural, whose import would take long.
        choices=("look_away", "sinusoid", "drive", "strafe", "orbit", "full_turn", "mild"),
    )
    clips_folder: str = parameter(
        "",
        """Folder of the clips a reset may name: NAME.mp4 with camNAME.json (and a line of
        caption.txt), or a folder NAME. Empty: no clips.""",
    )
    states_folder: str = parameter(
        "",
        """Folder of the states that outlive the node. Empty: hydra_ros/states in ROS's home
        ($ROS_HOME, else ~/.ros).""",
        read_only=True,
    )
    autosave: bool = parameter(
        False,
        """Keep the state 'autosave' in states_folder up to date, chunk by chunk.""",
    )
    resume: bool = parameter(
        False,
        """On the first activation go on from the state 'autosave', if there is one, instead of
        start_source.""",
        read_only=True,
    )
    memory_policy: str = parameter(
        "default",
        """How the frames that a chunk is conditioned on are chosen of all that is remembered:
        the newest (recent), those that see what the camera will see (overlap), or both and what
        last saw a subject that may come back (hybrid). default: what suits the model's training,
        hybrid for the default model and recent for the released one.""",
        choices=("default", "recent", "overlap", "hybrid"),
    )
    memory_device_mb: float = parameter(
        0.0,
        """Megabytes of memory that may stay on the device; the oldest beyond move to main memory.
        0: no limit.""",
        minimum=0.0,
        maximum=1_000_000.0,
        read_only=True,
    )
    memory_host_mb: float = parameter(
        0.0,
        """Megabytes of memory that may stay in main memory; the oldest beyond move to
        memory_folder. 0: no limit.""",
        minimum=0.0,
        maximum=1_000_000.0,
        read_only=True,
    )
    memory_folder: str = parameter(
        "",
        """Folder that memory moves to. Empty: hydra_ros/memory in ROS's home ($ROS_HOME, else
        ~/.ros).""",
        read_only=True,
    )
    publish_memory: bool = parameter(
        False,
        """Publish memory and memory/markers with every chunk; otherwise only while someone
        subscribes.""",
    )
    memory_sample: int = parameter(
        64,
        """Most remembered frames in these messages besides the selected ones, taken evenly from
        all of the history.""",
        minimum=0,
        maximum=10_000,
    )
    memory_thumbnails: bool = parameter(
        False, "Put a small picture (JPEG) of every frame into the messages on memory."
    )
    publish_retrieval: bool = parameter(
        False,
        """Publish on memory/retrieval, as a picture, which selected frames the transformer
        attended to.""",
    )
    observation_pose: str = parameter(
        "topic",
        """Where the pose of an image on observation/image comes from: observation/pose, or the
        transform of the image's frame in world_frame by its stamp (needs tf2_ros).""",
        choices=("topic", "tf"),
        read_only=True,
    )
    observation_tolerance: float = parameter(
        0.01,
        """Seconds between the stamps of an image and of the pose that is taken for it, at
        most.""",
        minimum=0.0,
        maximum=10.0,
    )
    observation_wait: float = parameter(
        1.0,
        "Seconds that an image waits for its pose.",
        minimum=0.0,
        maximum=60.0,
    )
    observation_rate: float = parameter(
        0.0,
        """Most observations a second that are remembered; what comes faster is skipped. 0: the
        frame rate.""",
        minimum=0.0,
        maximum=1000.0,
    )
    observation_clip_frames: int = parameter(
        17,
        """Most observations that are remembered as one clip, 1 + 4 k, where they come at the frame
        rate. 1 remembers each by itself, at once.""",
        minimum=1,
        maximum=4001,
        clip_length=True,
    )
    observation_rectified: bool = parameter(
        False,
        """Observed images are rectified: of observation/camera_info the projection matrix holds,
        not the camera matrix with its distortion.""",
    )
    chunk_frames: int = parameter(
        0,
        """Longest chunk of frames simulated at once, 1 + 4 k. 0 takes the model's longest in
        lockstep and 17 in realtime, where a shorter chunk means a lower latency.""",
        minimum=0,
        maximum=4001,
        clip_length=True,
    )
    lockstep_timeout: float = parameter(
        0.5,
        """Lockstep: single poses and velocities are collected until they fill a chunk or until
        none came for so many seconds; then they are simulated. A path is simulated at once.""",
        minimum=0.02,
        maximum=3600.0,
    )
    playback_speed: float = parameter(
        1.0,
        """Lockstep: how many times the frame rate frames are published at, at most; 0 publishes
        each as soon as it is there.""",
        minimum=0.0,
        maximum=1000.0,
    )
    max_pending_frames: int = parameter(
        1500,
        "Most frames that may be commanded ahead; commands beyond are dropped with a warning.",
        minimum=1,
        maximum=1_000_000,
    )
    max_rollout_candidates: int = parameter(
        256,
        "Most candidates of one rollout: paths times samples.",
        minimum=1,
        maximum=1_000_000,
    )
    rollout_batch: int = parameter(
        0,
        """Most candidates of a rollout computed as one batch; 0 takes 4 on a CPU or on workers, and
        64 on a GPU. A batch that does not fit into the device's memory is halved, and in realtime
        it is as narrow as keeps the stream's pace.""",
        minimum=0,
        maximum=4096,
        read_only=True,
    )
    workers: int = parameter(
        0,
        """Workers that imagine rollouts beside the simulator (needs hydra_ros[ray]): processes on
        this host, each with a GPU of its own where there are GPUs, otherwise with one processor. 0:
        none, unless ray_address is given (docs/planning.md).""",
        minimum=0,
        maximum=1024,
        read_only=True,
    )
    ray_address: str = parameter(
        "",
        """Ray cluster that the workers run on: HOST:PORT, or 'auto' for the one that this host has
        joined. With workers 0, as many as it has GPUs, or else processors. Empty: this host
        alone.""",
        read_only=True,
    )
    max_result_bytes: int = parameter(
        32 * 2**20,
        """Most bytes of pictures in a rollout's result; a goal that would return more is aborted
        before anything is computed.""",
        minimum=1024,
        maximum=2**31,
    )
    max_linear_speed: float = parameter(
        2.0,
        """Speed limit in m/s of velocities, and in realtime of the way to a commanded pose;
        paths, and poses in lockstep, are followed as they are.""",
        minimum=0.001,
        maximum=1000.0,
    )
    max_angular_speed: float = parameter(
        2.0, "Speed limit in rad/s of the same.", minimum=0.001, maximum=1000.0
    )
    cmd_vel_type: str = parameter(
        "auto",
        """Message type of cmd_vel: Twist, TwistStamped, or whichever is being published (Twist
        until a publisher of the other appears).""",
        choices=("auto", "twist", "twist_stamped"),
        read_only=True,
    )
    cmd_vel_timeout: float = parameter(
        0.5,
        """Realtime: seconds for which the last velocity is held; it is always held for the one
        chunk it first reaches.""",
        minimum=0.0,
        maximum=3600.0,
    )
    world_frame: str = parameter(
        "map",
        """Name of the world frame: of a procedural world its own (z up), of a clip the camera
        file's, converted to metres and REP-103 axes (z up, right-handed).""",
        read_only=True,
    )
    camera_frame: str = parameter(
        "camera_link", "Name of the camera's body frame (x forward, z up).", read_only=True
    )
    optical_frame: str = parameter(
        "camera_optical_frame",
        "Name of the camera's optical frame (z forward, y down).",
        read_only=True,
    )
    pose_convention: str = parameter(
        "body",
        """What poses in the world frame are poses of, on pose_cmd, path_cmd and camera/pose:
        the camera body (x forward) or its optical frame (z forward).""",
        choices=("body", "optical"),
        read_only=True,
    )
    publish_compressed: bool = parameter(
        True, "Publish JPEG images on camera/image_raw/compressed while someone subscribes."
    )
    jpeg_quality: int = parameter(90, "Quality of those images.", minimum=1, maximum=100)
    publish_clock: bool = parameter(
        False,
        """Publish simulated time on /clock, and stamp frames with it: for nodes that run with
        use_sim_time. Otherwise frames are stamped by the node's clock in realtime, and in
        lockstep with simulated time counted from the node's clock at the start of the world.""",
        read_only=True,
    )

    def __post_init__(self) -> None:
        # A pose in the camera's own frame is a motion: of equal names, one would hide the other.
        frames = {name: getattr(self, name) for name in FRAMES}
        for name, frame in frames.items():
            if not frame.strip():
                raise ParameterError(f"parameter {name} is {frame!r}; accepted: a frame's name")
        if len(set(frames.values())) < len(frames):
            listed = ", ".join(f"{name} is {frame!r}" for name, frame in frames.items())
            raise ParameterError(f"parameter {listed}; accepted: three names that differ")


def table(settings: type = Settings) -> list[Parameter]:
    """Return all parameters of a node in the order of its settings."""
    return [
        dataclasses.replace(field.metadata["parameter"], name=field.name)
        for field in dataclasses.fields(settings)
    ]


def check(parameters: Iterable[RosParameter], settings: type = Settings) -> str | None:
    """Return why new values of parameters are refused, None where all are accepted."""
    known = {line.name: line for line in table(settings)}
    for new in parameters:
        reason = known[new.name].check(new.value) if new.name in known else None
        if reason:
            return reason
    return None


def declare(node: Node, settings: type = Settings) -> None:
    """Declare all parameters on a node."""
    for line in table(settings):
        node.declare_parameter(line.name, line.default, line.descriptor())


def read(node: Node, settings: type = Settings) -> Any:
    """Return the node's present values, as ``settings``.

    Raises:
        ParameterError: a value that is not accepted.
    """
    values = node.get_parameters([line.name for line in table(settings)])
    reason = check(values, settings)
    if reason:
        raise ParameterError(f"parameter {reason}")
    return settings(**{value.name: value.value for value in values})


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def as_markdown(settings: type = Settings) -> str:
    """Return the table in Markdown."""
    lines = [
        "| parameter | type | default | accepted | fixed at start | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for line in table(settings):
        fixed = "yes" if line.read_only else ""
        lines.append(
            f"| `{line.name}` | {line.type_name} | `{_literal(line.default)}` | {line.accepted} "
            f"| {fixed} | {line.description} |"
        )
    return "\n".join(lines) + "\n"


def as_yaml() -> str:
    """Return a parameter file with every default, explained."""
    lines = [
        "# Every parameter of hydra_simulator with its default.",
        "# Written by: python -m hydra_ros.parameters --yaml",
        "/**:",
        "  ros__parameters:",
    ]
    for line in table():
        text = line.description + (f" ({line.accepted})" if line.accepted else "")
        lines.extend(f"    # {part}" for part in textwrap.wrap(text, 92))
        lines.append(f"    {line.name}: {_literal(line.default)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_yaml() if "--yaml" in sys.argv[1:] else as_markdown())
