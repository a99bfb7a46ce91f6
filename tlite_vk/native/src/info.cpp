#include "info.hpp"

#include "errors.hpp"

namespace tlite {
namespace {

struct Properties {
    vk::PhysicalDeviceProperties2 core;
    vk::PhysicalDeviceSubgroupProperties subgroup;
    vk::PhysicalDeviceMaintenance3Properties maintenance3;
    vk::PhysicalDeviceDriverProperties driver;
    vk::PhysicalDeviceSubgroupSizeControlProperties subgroup_size;
    vk::PhysicalDeviceShaderIntegerDotProductProperties integer_dot;
    vk::PhysicalDeviceMaintenance4Properties maintenance4;

    Properties(vk::PhysicalDevice device, const Features& f) {
        auto link = [&](auto& part) {
            part.pNext = core.pNext;
            core.pNext = &part;
        };
        link(subgroup);
        link(maintenance3);
        if (f.version >= VK_API_VERSION_1_2 || f.has("VK_KHR_driver_properties")) link(driver);
        if (f.version >= VK_API_VERSION_1_3 || f.has("VK_EXT_subgroup_size_control")) link(subgroup_size);
        if (f.version >= VK_API_VERSION_1_3 || f.has("VK_KHR_shader_integer_dot_product")) link(integer_dot);
        if (f.version >= VK_API_VERSION_1_3 || f.has("VK_KHR_maintenance4")) link(maintenance4);
        device.getProperties2(&core);
    }
};

const char* type_name(vk::PhysicalDeviceType type) {
    switch (type) {
    case vk::PhysicalDeviceType::eCpu: return "cpu";
    case vk::PhysicalDeviceType::eIntegratedGpu: return "integrated";
    case vk::PhysicalDeviceType::eDiscreteGpu: return "discrete";
    case vk::PhysicalDeviceType::eVirtualGpu: return "virtual";
    default: return "other";
    }
}

std::string component_name(int value) {
    static const char* const names[] = {"float16", "float32", "float64", "sint8",  "sint16", "sint32",
                                        "sint64",  "uint8",   "uint16",  "uint32", "uint64"};
    return value >= 0 && value < 11 ? names[value] : "type" + std::to_string(value);
}

std::string scope_name(int value) {
    switch (value) {
    case 1: return "device";
    case 2: return "workgroup";
    case 3: return "subgroup";
    case 5: return "queue_family";
    default: return "scope" + std::to_string(value);
    }
}

std::vector<MatrixShape> matrix_shapes(vk::Instance instance, vk::PhysicalDevice device) {
    auto query = reinterpret_cast<PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR>(
        instance.getProcAddr("vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR"));
    uint32_t count = 0;
    if (!query || query(device, &count, nullptr) != VK_SUCCESS) return {};
    std::vector<VkCooperativeMatrixPropertiesKHR> found(count, {VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR});
    if (query(device, &count, found.data()) != VK_SUCCESS) return {};
    std::vector<MatrixShape> shapes;
    for (const auto& p : found)
        if (!p.saturatingAccumulation)
            shapes.emplace_back(p.MSize, p.NSize, p.KSize, component_name(p.AType), component_name(p.BType),
                                component_name(p.CType), component_name(p.ResultType), scope_name(p.scope));
    return shapes;
}

void fill_limits(DeviceInfo& info, const Properties& p, uint32_t timestamp_bits) {
    const auto& l = p.core.properties.limits;
    const uint32_t subgroup = p.subgroup.subgroupSize;
    const uint32_t lo = p.subgroup_size.minSubgroupSize, hi = p.subgroup_size.maxSubgroupSize;
    const uint64_t largest = p.maintenance3.maxMemoryAllocationSize;
    info.limits = {
        {"max_storage_buffer_range", l.maxStorageBufferRange},
        {"max_uniform_buffer_range", l.maxUniformBufferRange},
        {"max_texel_buffer_elements", l.maxTexelBufferElements},
        {"max_compute_shared_memory", l.maxComputeSharedMemorySize},
        {"max_workgroup_invocations", l.maxComputeWorkGroupInvocations},
        {"max_push_constants", l.maxPushConstantsSize},
        {"min_storage_offset_alignment", l.minStorageBufferOffsetAlignment},
        {"min_uniform_offset_alignment", l.minUniformBufferOffsetAlignment},
        {"min_texel_offset_alignment", l.minTexelBufferOffsetAlignment},
        {"max_storage_buffers_per_stage", l.maxPerStageDescriptorStorageBuffers},
        {"max_uniform_buffers_per_stage", l.maxPerStageDescriptorUniformBuffers},
        {"max_texel_buffers_per_stage", l.maxPerStageDescriptorSampledImages},
        {"max_resources_per_stage", l.maxPerStageResources},
        {"non_coherent_atom", l.nonCoherentAtomSize},
        {"max_allocation_count", l.maxMemoryAllocationCount},
        {"max_allocation_size", largest},
        {"max_buffer_size", p.maintenance4.maxBufferSize ? p.maintenance4.maxBufferSize : largest},
        {"timestamp_valid_bits", timestamp_bits},
        {"subgroup_size", subgroup},
        {"min_subgroup_size", lo ? lo : subgroup},
        {"max_subgroup_size", hi ? hi : subgroup},
        {"max_workgroup_subgroups", p.subgroup_size.maxComputeWorkgroupSubgroups},
    };
    auto triple = [](const auto& a) { return std::tuple<uint64_t, uint64_t, uint64_t>(a[0], a[1], a[2]); };
    info.max_workgroup_size = triple(l.maxComputeWorkGroupSize);
    info.max_workgroup_count = triple(l.maxComputeWorkGroupCount);
    info.timestamp_period = l.timestampPeriod;
}

void fill_features(DeviceInfo& info, const Features& f, const Properties& p) {
    using Op = vk::SubgroupFeatureFlagBits;
    const bool compute = static_cast<bool>(p.subgroup.supportedStages & vk::ShaderStageFlagBits::eCompute);
    auto subgroup = [&](Op op) { return compute && static_cast<bool>(p.subgroup.supportedOperations & op); };
    const bool sized =
        static_cast<bool>(p.subgroup_size.requiredSubgroupSizeStages & vk::ShaderStageFlagBits::eCompute);
    info.features = {
        {"float16", f.arithmetic.shaderFloat16},
        {"int8", f.arithmetic.shaderInt8},
        {"int16", f.core.features.shaderInt16},
        {"int64", f.core.features.shaderInt64},
        {"storage16", f.storage16.storageBuffer16BitAccess},
        {"uniform_storage16", f.storage16.uniformAndStorageBuffer16BitAccess},
        {"storage8", f.storage8.storageBuffer8BitAccess},
        {"subgroup_basic", subgroup(Op::eBasic)},
        {"subgroup_vote", subgroup(Op::eVote)},
        {"subgroup_ballot", subgroup(Op::eBallot)},
        {"subgroup_arithmetic", subgroup(Op::eArithmetic)},
        {"subgroup_clustered", subgroup(Op::eClustered)},
        {"subgroup_shuffle", subgroup(Op::eShuffle)},
        {"subgroup_shuffle_relative", subgroup(Op::eShuffleRelative)},
        {"subgroup_extended_types", f.subgroup_types.shaderSubgroupExtendedTypes},
        {"subgroup_size_control", f.subgroup_size.subgroupSizeControl && sized},
        {"compute_full_subgroups", f.subgroup_size.computeFullSubgroups},
        {"integer_dot_product", f.integer_dot.shaderIntegerDotProduct},
        {"integer_dot_product_accelerated", p.integer_dot.integerDotProduct4x8BitPackedSignedAccelerated},
        {"cooperative_matrix", f.cooperative_matrix.cooperativeMatrix},
        {"vulkan_memory_model", f.memory_model.vulkanMemoryModel},
        {"timeline_semaphore", f.timeline.timelineSemaphore},
        {"scalar_block_layout", f.scalar_layout.scalarBlockLayout},
        {"maintenance4", f.maintenance4.maintenance4},
        {"global_priority", priority_extension(f.available, true) != nullptr},
    };
}

void fill_memory(DeviceInfo& info, vk::PhysicalDevice device) {
    auto memory = device.getMemoryProperties();
    for (uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
        const auto& heap = memory.memoryHeaps[i];
        const bool local = static_cast<bool>(heap.flags & vk::MemoryHeapFlagBits::eDeviceLocal);
        info.heaps.emplace_back(heap.size, local);
        (local ? info.device_bytes : info.host_bytes) += heap.size;
    }
}

} // namespace

uint32_t compute_family(vk::PhysicalDevice device) {
    auto families = device.getQueueFamilyProperties();
    int best = -1;
    for (uint32_t i = 0; i < families.size(); ++i) {
        if (!(families[i].queueFlags & vk::QueueFlagBits::eCompute)) continue;
        const bool graphics = static_cast<bool>(families[i].queueFlags & vk::QueueFlagBits::eGraphics);
        if (!graphics) return i;
        if (best < 0) best = static_cast<int>(i);
    }
    if (best < 0)
        fail(device.getProperties().deviceName.data(), " has no queue for compute work; choose another device");
    return static_cast<uint32_t>(best);
}

DeviceInfo describe(const Instance& instance, vk::PhysicalDevice device, int64_t index, const Features& features) {
    const Properties p(device, features);
    const auto& core = p.core.properties;
    DeviceInfo info;
    info.index = index;
    info.name = core.deviceName.data();
    info.type = type_name(core.deviceType);
    info.driver_name = p.driver.driverName.data();
    info.driver_info = p.driver.driverInfo.data();
    info.driver_version = core.driverVersion;
    info.vendor_id = core.vendorID;
    info.device_id = core.deviceID;
    info.api_version = {VK_API_VERSION_MAJOR(core.apiVersion), VK_API_VERSION_MINOR(core.apiVersion),
                        VK_API_VERSION_PATCH(core.apiVersion)};
    static const char digits[] = "0123456789abcdef";
    for (uint8_t byte : core.pipelineCacheUUID) {
        info.pipeline_cache_uuid += digits[byte >> 4];
        info.pipeline_cache_uuid += digits[byte & 15];
    }
    fill_limits(info, p, device.getQueueFamilyProperties().at(compute_family(device)).timestampValidBits);
    fill_features(info, features, p);
    fill_memory(info, device);
    if (features.cooperative_matrix.cooperativeMatrix) info.matrix_shapes = matrix_shapes(instance.handle(), device);
    return info;
}

} // namespace tlite
