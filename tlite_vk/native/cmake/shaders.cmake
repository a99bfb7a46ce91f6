# Compile every line of shaders/variants.txt, "OUTPUT SOURCE.comp [DEFINE=VALUE ...]", into tlite_vk/spv/OUTPUT.spv.
# The build environment's paths change between isolated builds: NO_CACHE.
get_filename_component(PYTHON_SCRIPTS "${Python_EXECUTABLE}" DIRECTORY)
execute_process(COMMAND "${Python_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_path('scripts'))"
                OUTPUT_VARIABLE SCRIPTS OUTPUT_STRIP_TRAILING_WHITESPACE)
find_program(GLSLANG NAMES glslang glslangValidator HINTS "${SCRIPTS}" "${PYTHON_SCRIPTS}" NO_CACHE REQUIRED)
find_program(SPIRV_VAL NAMES spirv-val HINTS "${SCRIPTS}" "${PYTHON_SCRIPTS}" NO_CACHE REQUIRED)

set(SHADER_DIR "${REPO_ROOT}/shaders")
set(SHADER_LIST "${SHADER_DIR}/variants.txt")
set(SPIRV_DIR "${CMAKE_BINARY_DIR}/spirv")
file(MAKE_DIRECTORY "${SPIRV_DIR}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${SHADER_LIST}")

file(STRINGS "${SHADER_LIST}" lines)
set(SPIRV_FILES "")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "#.*$" "" line "${line}")
  string(STRIP "${line}" line)
  if(line STREQUAL "")
    continue()
  endif()
  separate_arguments(fields UNIX_COMMAND "${line}")
  list(LENGTH fields count)
  if(count LESS 2)
    message(FATAL_ERROR "${SHADER_LIST}: expected 'OUTPUT SOURCE.comp [DEFINE=VALUE ...]', found '${line}'")
  endif()
  list(POP_FRONT fields output source)
  list(TRANSFORM fields PREPEND "-D")
  set(spv "${SPIRV_DIR}/${output}.spv")
  if(spv IN_LIST SPIRV_FILES)
    message(FATAL_ERROR "${SHADER_LIST}: '${output}' is declared twice")
  endif()
  add_custom_command(
    OUTPUT "${spv}"
    COMMAND "${GLSLANG}" -V --quiet --target-env vulkan1.1 "-I${SHADER_DIR}/lib" ${fields}
            --depfile "${spv}.d" -o "${spv}" "${SHADER_DIR}/${source}"
    COMMAND "${SPIRV_VAL}" --target-env vulkan1.1 "${spv}"
    DEPENDS "${SHADER_DIR}/${source}"
    DEPFILE "${spv}.d"
    COMMENT "shader ${output}"
    VERBATIM)
  list(APPEND SPIRV_FILES "${spv}")
endforeach()
add_custom_target(shaders ALL DEPENDS ${SPIRV_FILES})
# Named files, not the folder: a variant that was removed must not linger in the wheel.
install(FILES ${SPIRV_FILES} DESTINATION tlite_vk/spv)
