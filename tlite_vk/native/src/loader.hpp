// Opens the Vulkan loader at run time and fills vulkan.hpp's table of functions.
#pragma once
#include <vulkan/vulkan.hpp>

namespace tlite {

/// Opens libvulkan once per process. Throws DeviceError, saying what to install, where there is none.
void open_loader();

/// Completes the table of functions; call it after an instance was created (only the first call does anything).
void load_functions(vk::Instance instance);

} // namespace tlite
