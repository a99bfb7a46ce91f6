// What a device offers of the features this runtime knows, as the chain that also creates the device.
#pragma once
#include <map>
#include <string>
#include <unordered_set>
#include <vector>
#include <vulkan/vulkan.hpp>

#include "coop_matrix.hpp"

namespace tlite {

/// Members are linked through pNext, so an object stays where it was made.
struct Features {
    Features(vk::PhysicalDevice device, uint32_t instance_version);
    Features(const Features&) = delete;
    Features& operator=(const Features&) = delete;

    bool has(const char* extension) const { return available.count(extension) != 0; }
    /// Leaves out what is false under its name in DeviceInfo::features, so that the device is made without it.
    void leave_out(const std::map<std::string, bool>& kept);

    uint32_t version;                          ///< the lower of the instance's and the device's
    std::unordered_set<std::string> available; ///< device extensions
    std::vector<const char*> enabled;          ///< those that the known features need

    vk::PhysicalDeviceFeatures2 core;
    vk::PhysicalDevice16BitStorageFeatures storage16;
    vk::PhysicalDevice8BitStorageFeatures storage8;
    vk::PhysicalDeviceShaderFloat16Int8Features arithmetic;
    vk::PhysicalDeviceShaderSubgroupExtendedTypesFeatures subgroup_types;
    vk::PhysicalDeviceSubgroupSizeControlFeatures subgroup_size;
    vk::PhysicalDeviceShaderIntegerDotProductFeatures integer_dot;
    vk::PhysicalDeviceVulkanMemoryModelFeatures memory_model;
    vk::PhysicalDeviceTimelineSemaphoreFeatures timeline;
    vk::PhysicalDeviceScalarBlockLayoutFeatures scalar_layout;
    vk::PhysicalDeviceMaintenance4Features maintenance4;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR cooperative_matrix{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, nullptr, VK_FALSE, VK_FALSE};

  private:
    void keep_wanted_core();
};

/// The extension through which a queue is asked for at a global priority, or null: where it is not wanted, or where none
/// of `available` offers it.
const char* priority_extension(const std::unordered_set<std::string>& available, bool wanted);

} // namespace tlite
