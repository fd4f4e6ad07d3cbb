# SPDX-License-Identifier: Apache-2.0
# ROS 2 from Python wheels: a virtual environment is the ROS prefix. Nothing here changes
# anything for a ROS 2 that was installed from its own packages.

# Drop include directories that do not exist from the imported targets: the wheels' exports
# name directories of the machine that built them, and CMake refuses to generate then.
function(drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(present "")
    foreach(directory IN LISTS directories)
      if(directory MATCHES "\\$<" OR EXISTS "${directory}")
        list(APPEND present "${directory}")
      endif()
    endforeach()
    if(NOT "${present}" STREQUAL "${directories}")
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL drop_missing_include_directories)

# Export no include directories of this machine with a target: Python's and NumPy's, which may
# lie in a virtual environment inside the source tree, where CMake refuses to export them.
function(export_no_build_directories target)
  get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
  list(TRANSFORM directories REPLACE "^/.*" "$<BUILD_INTERFACE:\\0>")
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${directories}")
endfunction()

# Under pip nobody sourced a setup file: the prefix is where ament_package was installed.
if(SKBUILD)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -c
      "import pathlib, ament_package; print(pathlib.Path(ament_package.__file__).parents[4])"
    OUTPUT_VARIABLE ros_prefix OUTPUT_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE ros_prefix_missing)
  if(ros_prefix_missing)
    message(FATAL_ERROR "ament_package is not installed for ${Python3_EXECUTABLE}")
  endif()
  set(ENV{AMENT_PREFIX_PATH} "${ros_prefix}")
  list(PREPEND CMAKE_PREFIX_PATH "${ros_prefix}")
endif()
