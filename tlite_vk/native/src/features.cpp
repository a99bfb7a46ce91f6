#include "features.hpp"

#include <algorithm>

namespace tlite {
namespace {

/// Puts `part` into the chain behind `head`.
template <typename Part> void link(vk::PhysicalDeviceFeatures2& head, Part& part) {
    part.pNext = head.pNext;
    head.pNext = &part;
}

} // namespace

Features::Features(vk::PhysicalDevice device, uint32_t instance_version)
    : version(std::min(instance_version, device.getProperties().apiVersion)) {
    for (const auto& extension : device.enumerateDeviceExtensionProperties())
        available.insert(extension.extensionName.data());

    // A feature is core from `since`; before that an extension brings it, which then has to be enabled.
    auto add = [&](auto& part, uint32_t since, const char* extension) {
        if (version >= since) return link(core, part);
        if (!has(extension)) return;
        enabled.push_back(extension);
        link(core, part);
    };
    constexpr uint32_t never = ~0u;
    add(storage16, VK_API_VERSION_1_1, "VK_KHR_16bit_storage");
    add(storage8, VK_API_VERSION_1_2, "VK_KHR_8bit_storage");
    add(arithmetic, VK_API_VERSION_1_2, "VK_KHR_shader_float16_int8");
    add(subgroup_types, VK_API_VERSION_1_2, "VK_KHR_shader_subgroup_extended_types");
    add(memory_model, VK_API_VERSION_1_2, "VK_KHR_vulkan_memory_model");
    add(timeline, VK_API_VERSION_1_2, "VK_KHR_timeline_semaphore");
    add(scalar_layout, VK_API_VERSION_1_2, "VK_EXT_scalar_block_layout");
    add(subgroup_size, VK_API_VERSION_1_3, "VK_EXT_subgroup_size_control");
    add(integer_dot, VK_API_VERSION_1_3, "VK_KHR_shader_integer_dot_product");
    add(maintenance4, VK_API_VERSION_1_3, "VK_KHR_maintenance4");
    add(cooperative_matrix, never, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    device.getFeatures2(&core);
    keep_wanted_core();

    for (const char* name : {"VK_KHR_global_priority", "VK_EXT_global_priority"})
        if (!global_priority && has(name)) global_priority = name;
    if (has("VK_KHR_portability_subset")) enabled.push_back("VK_KHR_portability_subset");
}

// Everything else in the core set is graphics, or costs time where it is on (robustBufferAccess).
void Features::keep_wanted_core() {
    vk::PhysicalDeviceFeatures wanted;
    wanted.shaderInt16 = core.features.shaderInt16;
    wanted.shaderInt64 = core.features.shaderInt64;
    core.features = wanted;
}

} // namespace tlite
