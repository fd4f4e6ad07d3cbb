# SPDX-License-Identifier: Apache-2.0
# Included by the builds of the tests (CMAKE_PROJECT_INCLUDE): the same libraries in less time.
# The type support of all interfaces of a kind is one run of the compiler, which reads their
# headers once.
function(compile_type_support_at_once)
  foreach(kind c cpp fastrtps_c fastrtps_cpp)
    set_target_properties(${PROJECT_NAME}__rosidl_typesupport_${kind} PROPERTIES
      UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
  endforeach()
endfunction()
cmake_language(DEFER CALL compile_type_support_at_once)
