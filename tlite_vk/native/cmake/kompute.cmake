# Kompute's C++ core from the official source distribution of kp 0.9.0, linked statically.
# TLITE_VK_KOMPUTE may name an unpacked copy (no network then).
set(KOMPUTE_VERSION 0.9.0)
set(KOMPUTE_SHA256 98e583dc6e9731ff6d7a3e3317817e4d93f7b2945929619e29a56325db279949)

function(fetch_kompute out)
  set(dir "${CMAKE_BINARY_DIR}/kompute-source")
  set(source "${dir}/kp-${KOMPUTE_VERSION}")
  if(NOT EXISTS "${source}/CMakeLists.txt")
    file(WRITE "${dir}/requirements.txt" "kp==${KOMPUTE_VERSION} --hash=sha256:${KOMPUTE_SHA256}\n")
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -m pip download --quiet --no-deps --no-binary=:all: --require-hashes
              -r requirements.txt -d .
      WORKING_DIRECTORY "${dir}" RESULT_VARIABLE failed)
    if(failed)
      message(FATAL_ERROR "could not download kp==${KOMPUTE_VERSION}; unpack it and set TLITE_VK_KOMPUTE to its folder")
    endif()
    file(ARCHIVE_EXTRACT INPUT "${dir}/kp-${KOMPUTE_VERSION}.tar.gz" DESTINATION "${dir}")
  endif()
  set(${out} "${source}" PARENT_SCOPE)
endfunction()

if(DEFINED ENV{TLITE_VK_KOMPUTE})
  set(KOMPUTE_SOURCE "$ENV{TLITE_VK_KOMPUTE}")
else()
  fetch_kompute(KOMPUTE_SOURCE)
endif()

# The Vulkan loader is opened at run time (src/loader.cpp), so that its absence is a Python exception and not an
# import error: this target carries the headers only and stands where FindVulkan would link libvulkan.
find_path(Vulkan_INCLUDE_DIR vulkan/vulkan.hpp REQUIRED)
if(NOT TARGET Vulkan::Vulkan)
  add_library(Vulkan::Vulkan INTERFACE IMPORTED GLOBAL)
  set_target_properties(Vulkan::Vulkan PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${Vulkan_INCLUDE_DIR}"
    INTERFACE_COMPILE_DEFINITIONS "VK_NO_PROTOTYPES=1;VULKAN_HPP_DISPATCH_LOADER_DYNAMIC=1"
    INTERFACE_LINK_LIBRARIES "${CMAKE_DL_LIBS}")
endif()
set(Vulkan_LIBRARY "headers-only" CACHE STRING "libvulkan is not linked" FORCE)

set(fmt_DIR "${CMAKE_CURRENT_LIST_DIR}/fmt")
set(KOMPUTE_OPT_USE_BUILT_IN_FMT OFF)
set(KOMPUTE_OPT_USE_BUILT_IN_VULKAN_HEADER OFF)
set(KOMPUTE_OPT_INSTALL OFF)
set(KOMPUTE_OPT_DISABLE_VULKAN_VERSION_CHECK ON)
set(KOMPUTE_OPT_DISABLE_VK_DEBUG_LAYERS ON)
set(KOMPUTE_OPT_LOG_LEVEL Off CACHE STRING "silent" FORCE) # its own set(... CACHE) would drop a plain variable
set(BUILD_SHARED_LIBS OFF)
set(CMAKE_POLICY_DEFAULT_CMP0077 NEW) # its option() calls keep the values above
set(CMAKE_POLICY_VERSION_MINIMUM 3.20)
add_subdirectory("${KOMPUTE_SOURCE}" "${CMAKE_BINARY_DIR}/kompute" EXCLUDE_FROM_ALL SYSTEM)
set_target_properties(kompute PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
