# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros infer`` from files to videos, with a small model and with the default weights."""

import subprocess
import sys

import numpy as np
import published_tiny_decoder
import pytest

import small_models
from hydra_model.resources import weights_folder
from hydra_model.video import read_video
from hydra_ros.cli.main import main
from reference import reference_folder

WITHOUT_ROS = """
import sys
from hydra_ros.cli.main import main
code = main(sys.argv[1:])
print("loaded:", sorted({"rclpy", "sensor_msgs"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "examples"
    small_models.write_example(folder, "1")
    small_models.write_example(folder, "2")
    return folder


def infer(*arguments) -> int:
    return main(["infer", *map(str, arguments)])


def test_a_folder_of_examples_becomes_a_video_each(model, examples, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert infer("--examples", examples, "--model", model, "--output", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["1_prediction.mp4", "2_prediction.mp4"]
    frames, fps = read_video(out / "1_prediction.mp4")
    assert len(frames) == 17 + 17 and fps == pytest.approx(15)
    assert "2: 17 frames in" in capsys.readouterr().out


def test_plain_videos_have_the_models_size_and_begin_with_the_context(model, examples, tmp_path):
    arguments = ("--examples", examples, "--model", model, "--output", tmp_path, "--frames", 6)
    assert infer(*arguments, "--plain") == 0
    frames, _ = read_video(tmp_path / "1_prediction.mp4")
    assert frames.shape == (17 + 6, 48, 80, 3)
    assert np.abs(frames[0, 20, 10].astype(int) - (220, 140, 40)).max() < 40  # the orange square


def test_side_by_side_is_as_long_as_the_longer_one(model, examples, tmp_path):
    arguments = ("--examples", examples, "--model", model, "--output", tmp_path, "--frames", 6)
    assert infer(*arguments, "--side-by-side") == 0
    frames, _ = read_video(tmp_path / "1_prediction.mp4")
    assert len(frames) == 17 and frames.shape[2] > 2 * 480


def test_a_tiny_decoder_shows_the_same_prediction(examples, tmp_path):
    file = published_tiny_decoder.write_world(tmp_path)
    own = ("--examples", examples, "--model", tmp_path / "model", "--frames", 5, "--plain")
    for name, more in (("plain", ()), ("tiny", ("--tiny-decoder", file))):
        assert infer(*own, "--output", tmp_path / name, *more) == 0
    plain, tiny = (
        read_video(tmp_path / name / "1_prediction.mp4")[0] for name in ("plain", "tiny")
    )
    assert tiny.shape == plain.shape == (17 + 5, 48, 80, 3)
    assert np.array_equal(tiny[0], plain[0])  # the context
    assert not np.array_equal(tiny[-1], plain[-1])


def test_a_tiny_decoder_for_other_latents_is_refused(model, examples, tmp_path, capsys):
    file = published_tiny_decoder.write_world(tmp_path)
    assert infer("--examples", examples, "--model", model, "--tiny-decoder", file) == 2
    assert "decodes the latents of Wan 2.1" in capsys.readouterr().err


def test_one_bad_example_does_not_stop_the_others(model, examples, tmp_path, capsys):
    (examples / "cam1.json").unlink()
    out = tmp_path / "out"
    assert infer("--examples", examples, "--model", model, "--output", out) == 2
    assert [path.name for path in out.iterdir()] == ["2_prediction.mp4"]
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "example 1" in errors[0] and "cam1.json" in errors[0]
    assert "1 of 2 examples could not be used: 1" in errors[1]


def custom(examples, *changes) -> list[str]:
    arguments = {"--video": examples / "1.mp4", "--cameras": examples / "cam1.json"}
    arguments.update(dict(zip(changes[::2], changes[1::2], strict=True)))
    return [str(part) for pair in arguments.items() for part in pair if pair[1] is not None]


def test_one_case_of_ones_own(model, examples, tmp_path):
    arguments = custom(examples, "--model", model, "--output", tmp_path)
    assert infer(*arguments, "--caption", "a square", "--fov", 90, "--steps", 1) == 0
    assert len(read_video(tmp_path / "1_prediction.mp4")[0]) == 34


def test_the_seed_decides_the_prediction(model, examples, tmp_path):
    videos = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = custom(examples, "--model", model, "--output", tmp_path / name)
        assert infer(*arguments, "--seed", seed, "--frames", 5, "--plain") == 0
        videos.append(read_video(tmp_path / name / "1_prediction.mp4")[0][17:])
    assert np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--cameras", None), "give --examples FOLDER, or --video FILE with --cameras FILE"),
        (("--video", "missing.mp4"), "missing.mp4 does not exist"),
        (("--cameras", "missing.json"), "missing.json cannot be read"),
        (("--model", "missing"), "missing/config.json cannot be read"),
        (("--frames", "99"), "frames is 99"),
        (("--steps", "0"), "steps is 0"),
        (("--fov", "190"), "--fov is 190.0; it must lie between 0 and 180"),
        (("--seed", "-1"), "--seed is -1; accepted: 0 to 9223372036854775807"),
        (("--examples", "."), "not both"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(model, examples, tmp_path, capsys, changes, message):
    arguments = custom(examples, "--model", model, "--output", tmp_path / "out", *changes)
    assert infer(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_broken_video_is_named(model, examples, tmp_path, capsys):
    (examples / "1.mp4").write_bytes(b"nothing")
    assert infer(*custom(examples, "--model", model, "--output", tmp_path)) == 2
    assert "1.mp4 has no readable frames" in capsys.readouterr().err


def test_it_needs_no_ros(model, examples, tmp_path):
    arguments = custom(examples, "--model", model, "--output", tmp_path, "--frames", "1")
    command = [sys.executable, "-c", WITHOUT_ROS, "infer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_released_clips_with_the_default_weights(tmp_path, capsys):
    folder = reference_folder("examples")
    try:
        weights_folder()
    except FileNotFoundError:
        pytest.skip("the default weights are not here")
    assert infer("--examples", folder, "--output", tmp_path, "--steps", 1, "--plain") == 0
    for name in "1234":
        frames, _ = read_video(tmp_path / f"{name}_prediction.mp4")
        assert frames.shape == (77 + 77, 96, 160, 3)
        assert frames[77:].std() > 10  # a picture, whatever it shows
    assert "knows only its procedural worlds" in capsys.readouterr().out
