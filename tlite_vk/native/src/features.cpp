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

    if (has("VK_KHR_portability_subset")) enabled.push_back("VK_KHR_portability_subset");
}

// Everything else in the core set is graphics, or costs time where it is on (robustBufferAccess).
void Features::keep_wanted_core() {
    vk::PhysicalDeviceFeatures wanted;
    wanted.shaderInt16 = core.features.shaderInt16;
    wanted.shaderInt64 = core.features.shaderInt64;
    core.features = wanted;
}

void Features::leave_out(const std::map<std::string, bool>& kept) {
    const std::pair<const char*, vk::Bool32*> switches[] = {
        {"float16", &arithmetic.shaderFloat16},
        {"int8", &arithmetic.shaderInt8},
        {"int16", &core.features.shaderInt16},
        {"int64", &core.features.shaderInt64},
        {"storage16", &storage16.storageBuffer16BitAccess},
        {"uniform_storage16", &storage16.uniformAndStorageBuffer16BitAccess},
        {"storage8", &storage8.storageBuffer8BitAccess},
        {"subgroup_extended_types", &subgroup_types.shaderSubgroupExtendedTypes},
        {"subgroup_size_control", &subgroup_size.subgroupSizeControl},
        {"compute_full_subgroups", &subgroup_size.computeFullSubgroups},
        {"integer_dot_product", &integer_dot.shaderIntegerDotProduct},
        {"cooperative_matrix", &cooperative_matrix.cooperativeMatrix},
        {"vulkan_memory_model", &memory_model.vulkanMemoryModel},
        {"timeline_semaphore", &timeline.timelineSemaphore},
        {"scalar_block_layout", &scalar_layout.scalarBlockLayout},
        {"maintenance4", &maintenance4.maintenance4},
    };
    for (const auto& [name, enabled_there] : switches)
        if (!kept.at(name)) *enabled_there = VK_FALSE;
    if (!kept.at("storage16")) storage16.storagePushConstant16 = storage16.storageInputOutput16 = VK_FALSE;
    if (!kept.at("global_priority"))
        while (const char* name = priority_extension(available, true)) available.erase(name);
}

const char* priority_extension(const std::unordered_set<std::string>& available, bool wanted) {
    for (const char* name : {"VK_KHR_global_priority", "VK_EXT_global_priority"})
        if (wanted && available.count(name)) return name;
    return nullptr;
}

} // namespace tlite
