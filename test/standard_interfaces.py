# SPDX-License-Identifier: Apache-2.0
"""Builds ``simulation_interfaces`` (as Jazzy and Kilted ship it) where it is not installed.

The package is not among the wheels. Only the interfaces that the node uses are declared here,
field by field, and built for Python alone; the result is a ROS prefix.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MESSAGES = {
    "Bounds": """
        uint8 TYPE_EMPTY=0
        uint8 TYPE_BOX=1
        uint8 TYPE_CONVEX_HULL=2
        uint8 TYPE_SPHERE=3
        uint8 type
        geometry_msgs/Vector3[] points""",
    "EntityCategory": """
        uint8 CATEGORY_OBJECT=0
        uint8 CATEGORY_ROBOT=1
        uint8 CATEGORY_HUMAN=2
        uint8 CATEGORY_DYNAMIC_OBJECT=4
        uint8 CATEGORY_STATIC_OBJECT=5
        uint8 category""",
    "EntityFilters": """
        string filter
        EntityCategory[] categories
        TagsFilter tags
        Bounds bounds""",
    "EntityInfo": """
        EntityCategory category
        string description
        string[] tags""",
    "EntityState": """
        std_msgs/Header header
        geometry_msgs/Pose pose
        geometry_msgs/Twist twist
        geometry_msgs/Accel acceleration""",
    "Resource": """
        string uri
        string resource_string""",
    "Result": """
        uint8 RESULT_FEATURE_UNSUPPORTED=0
        uint8 RESULT_OK=1
        uint8 RESULT_NOT_FOUND=2
        uint8 RESULT_INCORRECT_STATE=3
        uint8 RESULT_OPERATION_FAILED=4
        uint8 result
        string error_message""",
    "SimulationState": """
        uint8 STATE_STOPPED=0
        uint8 STATE_PLAYING=1
        uint8 STATE_PAUSED=2
        uint8 STATE_QUITTING=3
        uint8 STATE_NO_WORLD=4
        uint8 STATE_LOADING_WORLD=5
        uint8 state""",
    "SimulatorFeatures": """
        uint8 SPAWNING=0
        uint8 DELETING=1
        uint8 NAMED_POSES=2
        uint8 POSE_BOUNDS=3
        uint8 ENTITY_TAGS=4
        uint8 ENTITY_BOUNDS=5
        uint8 ENTITY_BOUNDS_BOX=6
        uint8 ENTITY_BOUNDS_CONVEX=7
        uint8 ENTITY_CATEGORIES=8
        uint8 SPAWNING_RESOURCE_STRING=9
        uint8 ENTITY_STATE_GETTING=10
        uint8 ENTITY_STATE_SETTING=11
        uint8 ENTITY_INFO_GETTING=12
        uint8 ENTITY_INFO_SETTING=13
        uint8 SPAWNABLES=14
        uint8 SIMULATION_RESET=20
        uint8 SIMULATION_RESET_TIME=21
        uint8 SIMULATION_RESET_STATE=22
        uint8 SIMULATION_RESET_SPAWNED=23
        uint8 SIMULATION_STATE_GETTING=24
        uint8 SIMULATION_STATE_SETTING=25
        uint8 SIMULATION_STATE_PAUSE=26
        uint8 STEP_SIMULATION_SINGLE=31
        uint8 STEP_SIMULATION_MULTIPLE=32
        uint8 STEP_SIMULATION_ACTION=33
        uint8 WORLD_LOADING=40
        uint8 WORLD_RESOURCE_STRING=41
        uint8 WORLD_TAGS=42
        uint8 WORLD_UNLOADING=43
        uint8 WORLD_INFO_GETTING=44
        uint8 AVAILABLE_WORLDS=45
        uint8 SPAWNING_ENTITIES=50
        uint16[] features
        string[] spawn_formats
        string custom_info""",
    "TagsFilter": """
        string[] tags
        uint8 FILTER_MODE_ANY=0
        uint8 FILTER_MODE_ALL=1
        uint8 filter_mode""",
    "WorldResource": """
        string name
        Resource world_resource
        string description
        string[] tags""",
}

SERVICES = {
    "GetAvailableWorlds": """
        string[] additional_sources
        TagsFilter filter
        bool offline_only
        bool continue_on_error
        ---
        uint8 DEFAULT_SOURCES_FAILED=101
        Result result
        WorldResource[] worlds""",
    "GetCurrentWorld": """
        ---
        uint8 NO_WORLD_LOADED=101
        Result result
        WorldResource world""",
    "GetEntities": """
        EntityFilters filters
        ---
        Result result
        string[] entities""",
    "GetEntitiesStates": """
        EntityFilters filters
        ---
        Result result
        string[] entities
        EntityState[] states""",
    "GetEntityInfo": """
        string entity
        ---
        Result result
        EntityInfo info""",
    "GetEntityState": """
        string entity
        ---
        Result result
        EntityState state""",
    "GetSimulationState": """
        ---
        SimulationState state
        Result result""",
    "GetSimulatorFeatures": """
        ---
        SimulatorFeatures features""",
    "LoadWorld": """
        string uri
        string resource_string
        bool fail_on_unsupported_element
        bool ignore_missing_or_unsupported_assets
        ---
        uint8 UNSUPPORTED_FORMAT=101
        uint8 NO_RESOURCE=102
        uint8 RESOURCE_PARSE_ERROR=103
        uint8 MISSING_ASSETS=104
        uint8 UNSUPPORTED_ASSETS=105
        uint8 UNSUPPORTED_ELEMENTS=106
        Result result
        WorldResource world""",
    "ResetSimulation": """
        uint8 SCOPE_DEFAULT=0
        uint8 SCOPE_TIME=1
        uint8 SCOPE_STATE=2
        uint8 SCOPE_SPAWNED=4
        uint8 SCOPE_ALL=255
        uint8 scope
        ---
        Result result""",
    "SetEntityState": """
        string entity
        EntityState state
        ---
        uint8 INVALID_POSE=101
        Result result""",
    "SetSimulationState": """
        SimulationState state
        ---
        uint8 ALREADY_IN_TARGET_STATE=101
        uint8 STATE_TRANSITION_ERROR=102
        uint8 INCORRECT_TRANSITION=103
        Result result""",
    "StepSimulation": """
        uint64 steps 1
        ---
        Result result""",
}

ACTIONS = {
    "SimulateSteps": """
        uint64 steps
        ---
        Result result
        ---
        uint64 completed_steps
        uint64 remaining_steps""",
}

CMAKE = """
cmake_minimum_required(VERSION 3.22)
project(simulation_interfaces LANGUAGES C CXX)
include("{helpers}")
find_package(ament_cmake REQUIRED)
# What Python over Fast DDS needs of the default generators.
foreach(generator rosidl_cmake rosidl_generator_type_description rosidl_generator_c
    rosidl_generator_cpp rosidl_typesupport_fastrtps_cpp rosidl_typesupport_fastrtps_c
    rosidl_typesupport_c rosidl_generator_py)
  find_package(${{generator}} REQUIRED)
endforeach()
set(dependencies action_msgs builtin_interfaces geometry_msgs std_msgs)
foreach(package IN LISTS dependencies)
  find_package(${{package}} REQUIRED)
endforeach()
file(GLOB interfaces RELATIVE "${{CMAKE_CURRENT_SOURCE_DIR}}" msg/*.msg srv/*.srv action/*.action)
# The dependencies bring the others with them.
list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX
  "^rosidl_typesupport_(introspection_cpp|cpp):")
rosidl_generate_interfaces(${{PROJECT_NAME}} ${{interfaces}} DEPENDENCIES ${{dependencies}})
# All interfaces of a kind in one run of the compiler, which reads their headers once.
foreach(kind c fastrtps_c fastrtps_cpp)
  set_target_properties(${{PROJECT_NAME}}__rosidl_typesupport_${{kind}} PROPERTIES
    UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
endforeach()
ament_package()
"""

PACKAGE = """<?xml version="1.0"?>
<package format="3">
  <name>simulation_interfaces</name>
  <version>1.5.1</version>
  <description>The part of the standard that the tests need.</description>
  <maintainer email="hydra_ros@example.com">hydra_ros developers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>action_msgs</depend>
  <depend>builtin_interfaces</depend>
  <depend>geometry_msgs</depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
</package>
"""


def missing_tools() -> list[str]:
    """Return what is missing to build interfaces; empty where they can be built."""
    missing = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
    if importlib.util.find_spec("rosidl_generator_py") is None:
        missing.append("the interface generators of ROS")
    return missing


def write_package(folder: Path) -> None:
    """Write the source package."""
    for kind, definitions in (("msg", MESSAGES), ("srv", SERVICES), ("action", ACTIONS)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, text in definitions.items():
            lines = [line.strip() for line in text.strip().splitlines()]
            (folder / kind / f"{name}.{kind}").write_text("\n".join(lines) + "\n")
    helpers = Path(__file__).parents[1] / "cmake" / "ros_wheels.cmake"
    (folder / "CMakeLists.txt").write_text(CMAKE.format(helpers=helpers.as_posix()))
    (folder / "package.xml").write_text(PACKAGE)


def key() -> str:
    """Return what tells one build from another: definitions, recipe and interpreter."""
    parts = (MESSAGES, SERVICES, ACTIONS, CMAKE, sys.prefix, sys.version)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def build(folder: Path) -> Path:
    """Build the package in ``folder``, unless it is there; return its ROS prefix.

    Raises:
        RuntimeError: the build failed; the message has the end of its output.
    """
    source, binary, prefix = folder / "source", folder / "build", folder / "prefix"
    complete = folder / "complete"
    if complete.exists():
        return prefix
    write_package(source)
    environment = os.environ | {
        "AMENT_PREFIX_PATH": os.pathsep.join(
            filter(None, (sys.prefix, os.environ.get("AMENT_PREFIX_PATH", "")))
        ),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = [
        "cmake", "-S", source, "-B", binary, *generator,
        f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython3_EXECUTABLE={sys.executable}",
        f"-DCMAKE_PREFIX_PATH={sys.prefix}", "-DBUILD_TESTING=OFF",
        # Never run fast, so that it is built fast.
        "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", binary, "--target", "install", "-j", "2"]):
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode:
            raise RuntimeError(f"simulation_interfaces was not built:\n{done.stdout[-3000:]}")
    complete.touch()
    return prefix


@contextmanager
def installed(prefix: Path) -> Iterator[None]:
    """Let this process, and those that it starts, find the package under ``prefix``."""
    packages = next(prefix.glob("lib/python*/*-packages"))
    places = {
        "AMENT_PREFIX_PATH": prefix,
        "PYTHONPATH": packages,
        "LD_LIBRARY_PATH": prefix / "lib",
    }
    before = {name: os.environ.get(name) for name in places}
    for name, place in places.items():
        os.environ[name] = os.pathsep.join(filter(None, (str(place), before[name])))
    sys.path.insert(0, str(packages))
    # The loader reads its path when a process starts; what is loaded already, it finds.
    waiting = sorted((prefix / "lib").glob("lib*.so"))
    for _ in range(len(waiting)):
        for library in list(waiting):
            with suppress(OSError):
                ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
                waiting.remove(library)
    try:
        yield
    finally:
        sys.path.remove(str(packages))
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
