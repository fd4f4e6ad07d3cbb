# SPDX-License-Identifier: Apache-2.0
"""Which of the documented commands tests run, how, and why the others are not run.

A command is written as the documents have it, its comment left out. What has to be changed to
run it in seconds, on a CPU and without a network, is said beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Weights that load at once, in place of the default ones; a model of this name is in the sandbox,
# as a user has it who converted the released weights.
SMALL = "hydra-1.3b"
SMALL_NODE = f" -p model:={SMALL}"
# Sizes and lengths in place of the released model's, and a start from the base in "downloads".
SMALL_TUNING = (
    " --set model=released.json --set device=cpu --set training.precision=float32"
    " --set training.steps=2 --set start=wan-base:downloads/Wan2.1-T2V-1.3B/"
    "diffusion_pytorch_model.safetensors"
)

# The same for the default model.
SMALL_TRAINING = (
    " --set model=trained.json --set device=cpu --set compiled=false --set samples=false"
    ' --set autoencoder_length={"steps":1} --set transformer_length={"steps":1}'
    ' --set few_step_length={"steps":1} --set autoencoder.worlds=1 --set autoencoder.clips=1'
    " --set transformer.worlds=1 --set transformer.draws=1 --set few_step.worlds=1"
)


@dataclass(frozen=True)
class Run:
    """A documented command, and how a test runs it.

    ``replaced`` are texts and what takes their place; ``more`` is put after it.
    """

    text: str
    more: str = ""
    replaced: tuple[tuple[str, str], ...] = ()

    def words(self, documented: list[str]) -> list[str]:
        """Return the words to run, given those of the document."""
        for old, new in self.replaced:
            assert any(old in word for word in documented), (old, documented)
            documented = [word.replace(old, new) for word in documented]
        return [*documented, *self.more.split()]


# Commands that end by themselves, in this order, in one folder.
ENDING = (
    Run("hydra-ros --version"),
    Run("hydra-ros doctor"),
    Run("hydra-ros doctor --layout foxglove.json"),
    Run("hydra-ros demo --frames 17 --output demo"),  # with the default weights
    # This bag has two topics of poses.
    Run("hydra-ros replay robot --start --device cpu --seed 7", f" --model {SMALL} --topic /odom"),
    Run("hydra-ros plot robot_replay"),
    Run("hydra-ros infer --model hydra-1.3b --examples examples_folder"),
    Run("hydra-ros infer --model hydra-1.3b --examples examples_folder --output predictions"),
    Run(
        "hydra-ros evaluate --worlds 8 --steps 2,4 --batch 4 --output results",
        f" --model {SMALL} --device cpu",
        (("8", "1"),),
    ),
    Run(
        "hydra-ros evaluate --data procedural:8:1000000000 --steps 4",
        f" --model {SMALL} --device cpu --output clips",
        (("procedural:8", "procedural:1"),),
    ),
    Run(
        "hydra-ros evaluate --worlds 2 --batch 2 --steps 8 --presets balanced,fast,few_step",
        f" --model {SMALL} --device cpu --output presets",
        (("2", "1"),),
    ),
    Run("hydra-ros bench", f" --model {SMALL}"),
    Run(
        "hydra-ros bench --model full-size --json full.json --plot full.png",
        "",
        (("full-size", SMALL),),
    ),
    Run(
        "hydra-ros evaluate --worlds 256 --steps 2,4,8,20 --output results",
        f" --model {SMALL} --device cpu",
        (("256", "1"),),
    ),
    # The miniature's node is left out: simulators are driven by many other tests.
    Run(
        "python benchmarks/full_size.py --preset miniature --device cpu --sampling-steps 2",
        " --parts files,load,forward",
    ),
    Run("touch venv/COLCON_IGNORE"),
    # From here on with the released files in small, one after another as a user has them.
    Run(
        "hydra-ros convert downloads hydra-1.3b",
        " --config released.json",
        (("hydra-1.3b", "runs/wan"),),
    ),
    Run(
        "hydra-ros convert downloads hydra-1.3b --dtype bfloat16 --overwrite",
        " --config released.json",
        (("hydra-1.3b", "runs/wan"),),
    ),
    Run("hydra-ros prepare hm-world:HM-World prepared --model runs/wan", " --device cpu"),
    Run(
        "hydra-ros prepare hm-world:HM-World prepared --model runs/wan --part 0/4",
        " --device cpu",
        (("prepared", "a_part"),),  # in that folder nothing is left to do
    ),
    Run(
        "hydra-ros train transformer --preset hydra-1.3b --set data=prepared "
        "--set autoencoder=runs/wan",
        SMALL_TUNING,
    ),
    Run(
        "hydra-ros train transformer --preset hydra-1.3b --synthetic 20 --processes 2",
        " --set model=released.json --set device=cpu --output runs/synthetic",
        (("20", "3"), ("2", "1")),
    ),
    Run(
        "hydra-ros evaluate --model runs/hydra-1.3b/model --data hm-world:HM-World-test --steps 50",
        " --device cpu --output of_clips",
        (("50", "1"),),
    ),
    Run(
        "hydra-ros infer --model hydra-1.3b --examples examples_folder --tiny-decoder taew2_1.pth",
        " --output tiny_decoder",
        (("hydra-1.3b", "model"),),
    ),
    # The default model's way, with a smaller one.
    Run("hydra-ros train transformer --preset default", SMALL_TRAINING),
    Run(
        "hydra-ros train transformer --preset default --processes 2",
        f"{SMALL_TRAINING} --output runs/other",
        (("2", "1"),),
    ),
    Run(
        "hydra-ros evaluate --model runs/default/model --worlds 256 "
        "--output runs/default/evaluation",
        " --device cpu --steps 1",
        (("256", "1"),),
    ),
    Run("hydra-ros train transformer --config mine.yaml --processes 2", "", (("2", "1"),)),
    Run(
        "hydra-ros train foresight --preset default --set start_from=runs/default/model "
        "--output runs/foresight",
        ' --set device=cpu --set compiled=false --set foresight_length={"steps":2}'
        " --set foresight.worlds=1 --set foresight.drawn=8 --set foresight.tracks=2",
    ),
)

# Simulators, each with the commands that run while it does, in this order.
SIMULATORS = {
    Run("hydra_simulator --ros-args -p mode:=realtime -p memory_thumbnails:=true", SMALL_NODE): (
        Run("hydra_teleop"),
        Run("ros2 run hydra_ros hydra_teleop --ros-args -p linear_speed:=1.0"),
        Run("hydra-ros record --output my_run"),
        Run("hydra-ros plot my_run"),
        Run("hydra-ros plot my_run --output run.pdf --thumbnails 6"),
        Run(
            "hydra-ros record --output my_run --namespace /left --duration 60 --compressed",
            "",
            (("my_run", "compressed"), ("/left", "/"), ("60", "5")),
        ),
        # Any free port: the usual one may be taken.
        Run("hydra_web", " --port 0"),
        Run("hydra_web --host 0.0.0.0", " --port 0"),
        Run("ros2 run hydra_ros hydra_web --namespace left", " --port 0"),
    ),
    Run(
        "hydra_simulator --ros-args -p model:=hydra-1.3b -p clips_folder:=examples_folder "
        "-p start_source:='1'"
    ): (
        Run(
            "hydra-ros reset --from-bag robot --image-topic /front/image_raw --odom-topic /odom "
            "--at 12.5",
            "",
            (("12.5", "1.5"),),
        ),
        Run(
            "hydra-ros reset --from-bag robot --image-topic /front/image_raw "
            "--pose-topic /camera/pose --optical"
        ),
        Run(
            "hydra-ros reset --from-bag robot --image-topic /front/image_raw --odom-topic /odom "
            "--prompt a courtyard with people"
        ),
        Run("hydra-ros reset --source robot"),
    ),
    Run("hydra_simulator --ros-args --params-file config/planner.yaml", SMALL_NODE): (
        Run(
            "python examples/image_goal_navigation.py --goal goal.png --legs 1 --candidates 8 "
            "--iterations 2",
            "",
            (("8", "3"), ("2", "1")),
        ),
    ),
    Run("hydra_simulator --ros-args -p mode:=realtime", SMALL_NODE): (),
    Run("hydra_simulator --ros-args -p mode:=realtime -p seed:=7", SMALL_NODE): (),
    Run("ros2 run hydra_ros hydra_simulator --ros-args -p seed:=7", SMALL_NODE): (),
    Run("hydra_simulator --ros-args -p model:=hydra-1.3b -p sampler_steps:=20"): (),
    Run(
        "hydra_simulator --ros-args -p model:=hydra-1.3b -p tiny_decoder:=taew2_1.pth",
        "",
        (("hydra-1.3b", "model"),),
    ): (),
    Run("hydra_simulator --ros-args --log-level debug", SMALL_NODE): (),
    Run(
        "hydra_simulator --ros-args -r camera/image_raw:=/front/image_raw "
        "-r camera/camera_info:=/front/camera_info -p optical_frame:=front_optical",
        SMALL_NODE,
    ): (),
}

# Lines for a shell that programs started from it then see.
EXPORTS = (
    "export FASTRTPS_DEFAULT_PROFILES_FILE=$PWD/config/fastdds.xml",
    "export FASTDDS_DEFAULT_PROFILES_FILE=$PWD/config/fastdds.xml",
)

# Where the `ros2` command is installed: launch files that are started until their node runs, each
# with the commands that are run meanwhile.
LAUNCH_SMALL = f" model:={SMALL} device:=cpu"
LAUNCHED = {
    Run("ros2 launch hydra_ros simulator.launch.py mode:=realtime seed:=7", LAUNCH_SMALL): (
        Run("ros2 topic hz /camera/image_raw"),
        Run("ros2 topic echo /diagnostics"),
        Run("ros2 topic info --verbose /camera/image_raw"),
        Run(
            "ros2 service call /hydra_simulator/reset hydra_ros/srv/Reset "
            "{source: procedural, seed: 12}"
        ),
        Run(
            "ros2 service call /hydra_simulator/save_state hydra_ros/srv/SaveState "
            "{name: junction, persistent: true}"
        ),
        Run(
            "ros2 service call /hydra_simulator/load_state hydra_ros/srv/LoadState {name: junction}"
        ),
    ),
    Run("ros2 launch hydra_ros simulator.launch.py autostart:=false", LAUNCH_SMALL): (
        Run("ros2 lifecycle set /hydra_simulator configure"),
        Run("ros2 lifecycle set /hydra_simulator activate"),
    ),
    Run("ros2 launch hydra_ros simulator.launch.py params_file:=planner", LAUNCH_SMALL): (),
    Run("ros2 launch hydra_ros simulator.launch.py log_level:=debug", LAUNCH_SMALL): (),
}

# What those commands answer, as a regular expression.
ANSWERS = {
    "ros2 topic hz /camera/image_raw": r"average rate: \d",
    "ros2 topic echo /diagnostics": "real_time_factor",
    "ros2 topic info --verbose /camera/image_raw": "Node name: hydra_simulator",
    "ros2 service call /hydra_simulator/reset hydra_ros/srv/Reset "
    "{source: procedural, seed: 12}": "success=True",
    "ros2 service call /hydra_simulator/save_state hydra_ros/srv/SaveState "
    "{name: junction, persistent: true}": "success=True",
    "ros2 service call /hydra_simulator/load_state hydra_ros/srv/LoadState "
    "{name: junction}": "success=True",
    "ros2 lifecycle set /hydra_simulator configure": "Transitioning successful",
    "ros2 lifecycle set /hydra_simulator activate": "Transitioning successful",
}


@dataclass(frozen=True)
class Reason:
    """Why commands are not run here, and the tests that do the same as far as it can be done."""

    text: str
    tests: tuple[str, ...] = ()


_NETWORK = "downloads packages"
_ROS = "needs a ROS 2 installation in /opt"
_GPU = "needs GPUs"
_LONG = "takes minutes to days"

# Whole commands, as regular expressions, that are not run.
NOT_RUN = {
    r"make demo": Reason(_NETWORK, ("packaging/test_make.py", "system/test_demo.py")),
    r"make test": Reason("is what runs this"),
    r"python3 -m venv .*|\. venv/bin/activate": Reason(
        "has a test of its own", ("packaging/test_pip_install.py",)
    ),
    r"pip install .*": Reason(_NETWORK, ("packaging/test_pip_install.py",)),
    r"source .*|rosdep .*|python3 -m colcon build .*": Reason(
        _ROS, ("packaging/test_colcon_build.py",)
    ),
    r"ros2 launch hydra_ros simulator\.launch\.py (mode:=realtime|namespace:=\w+ seed:=\d)": Reason(
        "has a test of its own where `ros2` is installed", ("system/test_launch.py",)
    ),
    r"ros2 launch hydra_ros (demo\.launch\.py drive:=keyboard|planner\.launch\.py .*)": Reason(
        "has a test of its own where `ros2` is installed", ("system/test_launch.py",)
    ),
    r"ros2 launch hydra_ros demo\.launch\.py .* rviz:=true|rviz2 .*": Reason(
        "needs RViz", ("launch/test_files.py", "launch/test_launch_files.py")
    ),
    r"ros2 launch hydra_ros teleop\.launch\.py input:=joystick.*": Reason(
        "needs a joystick and its driver", ("system/test_teleop.py",)
    ),
    r"ros2 launch hydra_ros teleop\.launch\.py namespace:=left": Reason(
        "needs a terminal under `ros2 launch`",
        ("launch/test_launch_files.py", "system/test_teleop.py"),
    ),
    r"ros2 run teleop_twist_keyboard .*": Reason(
        "is another package's", ("system/test_lockstep.py",)
    ),
    r"ros2 bag .*": Reason("needs rosbag2", ("system/test_bags.py",)),
    r"ros2 launch .* params_file:=gpu .*": Reason(
        _GPU, ("launch/test_files.py", "launch/test_launch_files.py")
    ),
    r"hydra_simulator --ros-args -p workers:=2": Reason(
        "has a test of its own", ("system/test_rollouts_workers.py",)
    ),
    r"hydra_simulator .*ray_address:=.*": Reason("needs several machines", ("model/workers",)),
    r"hydra-ros demo --model runs/.*": Reason(
        "takes as long again as with the default weights, which is run; that model is evaluated",
        ("system/test_demo.py",),
    ),
    r"python benchmarks/full_size\.py|bash benchmarks/gpu_campaign\.sh .*": Reason(_GPU),
    r"python -m benchmarks\.(revisit|drift) .*": Reason(_LONG, ("benchmarks/test_revisit.py",)),
    r"python -m benchmarks\.node_overhead --model full-size": Reason(
        _GPU, ("system/test_demo.py",)
    ),
    r"python -m benchmarks\.node_overhead": Reason(
        "two minutes of measuring, for what other tests do", ("system/test_demo.py",)
    ),
    r"python -m benchmarks\.node_start": Reason(
        "takes a quarter of a minute a start, for what other tests do", ("system/test_realtime.py",)
    ),
    r"python -m benchmarks\.fp8( .*)?": Reason(_GPU, ("model/fast/test_kernels.py",)),
    r"python benchmarks/page_latency\.py .*": Reason(
        "needs a browser and an idle machine", ("system/test_web_page.py",)
    ),
    r"ssh .*": Reason(
        "has a test of its own where an SSH server is installed", ("system/test_ssh.py",)
    ),
}


def reason_not_to_run(command: str) -> Reason | None:
    return next(
        (reason for pattern, reason in NOT_RUN.items() if re.fullmatch(pattern, command)), None
    )


def commands_run() -> list[str]:
    """Return the documented commands that tests run."""
    beside = {**SIMULATORS, **LAUNCHED}
    found = [*ENDING, *beside, *(run for runs in beside.values() for run in runs)]
    return [*(run.text for run in found), *EXPORTS]
