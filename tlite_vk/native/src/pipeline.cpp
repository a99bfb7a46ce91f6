#include "pipeline.hpp"

#include <algorithm>

#include "capabilities.hpp"
#include "errors.hpp"

namespace tlite {
namespace {

struct TexelFormat {
    const char* name;
    vk::Format format;
    uint32_t bytes;
};

constexpr TexelFormat kTexelFormats[] = {
    {"r8ui", vk::Format::eR8Uint, 1},
    {"r8i", vk::Format::eR8Sint, 1},
    {"rgba8ui", vk::Format::eR8G8B8A8Uint, 4},
    {"rgba8i", vk::Format::eR8G8B8A8Sint, 4},
    {"r16ui", vk::Format::eR16Uint, 2},
    {"rgba16ui", vk::Format::eR16G16B16A16Uint, 8},
    {"r16f", vk::Format::eR16Sfloat, 2},
    {"rg16f", vk::Format::eR16G16Sfloat, 4},
    {"rgba16f", vk::Format::eR16G16B16A16Sfloat, 8},
    {"r32ui", vk::Format::eR32Uint, 4},
    {"rg32ui", vk::Format::eR32G32Uint, 8},
    {"rgba32ui", vk::Format::eR32G32B32A32Uint, 16},
    {"r32f", vk::Format::eR32Sfloat, 4},
    {"rg32f", vk::Format::eR32G32Sfloat, 8},
    {"rgba32f", vk::Format::eR32G32B32A32Sfloat, 16},
};

} // namespace

Binding Binding::parse(const std::string& name) {
    if (name == "storage") return {vk::DescriptorType::eStorageBuffer};
    if (name == "uniform") return {vk::DescriptorType::eUniformBuffer};
    std::string known;
    for (const auto& texel : kTexelFormats) {
        if (name == std::string("texel_") + texel.name)
            return {vk::DescriptorType::eUniformTexelBuffer, texel.format, texel.bytes};
        known += std::string(", texel_") + texel.name;
    }
    fail("unknown binding '", name, "'; use one of storage, uniform", known);
}

Pipeline::Pipeline(std::shared_ptr<Device> device, const std::vector<uint32_t>& spirv,
                   const std::vector<std::string>& bindings, const PipelineOptions& options)
    : device_(std::move(device)), push_bytes_(options.push_bytes) {
    for (const auto& name : bindings) bindings_.push_back(Binding::parse(name));
    device_->check_alive();
    check(options);
    check_shader(read_facts(spirv, options.specialization));
    try {
        create_layouts();
        create_handle(spirv, options);
    } catch (...) {
        destroy();
        throw;
    }
}

Pipeline::~Pipeline() { destroy(); }

void Pipeline::destroy() noexcept {
    auto& device = *device_;
    if (handle_) device->destroy(handle_);
    if (layout_) device->destroy(layout_);
    if (set_layout_) device->destroy(set_layout_);
}

void Pipeline::check(const PipelineOptions& options) const {
    const Device& device = *device_;
    auto count = [&](vk::DescriptorType type) {
        return static_cast<uint64_t>(
            std::count_if(bindings_.begin(), bindings_.end(), [&](const Binding& b) { return b.type == type; }));
    };
    auto at_most = [&](uint64_t asked, const char* limit, const char* what) {
        if (asked > device.limit(limit))
            fail("a shader with ", asked, " ", what, " is over the limit of ", device.info().name, ": ",
                 device.limit(limit));
    };
    at_most(count(vk::DescriptorType::eStorageBuffer), "max_storage_buffers_per_stage", "storage buffers");
    at_most(count(vk::DescriptorType::eUniformBuffer), "max_uniform_buffers_per_stage", "uniform buffers");
    at_most(count(vk::DescriptorType::eUniformTexelBuffer), "max_texel_buffers_per_stage", "texel buffers");
    at_most(bindings_.size(), "max_resources_per_stage", "bindings");
    at_most(options.push_bytes, "max_push_constants", "bytes of push constants");
    if (options.push_bytes % 4) fail("push constants take a multiple of 4 bytes, not ", options.push_bytes);
    for (const auto& binding : bindings_)
        if (binding.texel && !(device.physical().getFormatProperties(binding.format).bufferFeatures &
                               vk::FormatFeatureFlagBits::eUniformTexelBuffer))
            fail(device.info().name, " cannot read texel buffers of ", vk::to_string(binding.format));
    check_subgroups(options);
}

void Pipeline::check_subgroups(const PipelineOptions& options) const {
    const Device& device = *device_;
    const uint32_t size = options.subgroup_size;
    if (options.full_subgroups && !device.feature("compute_full_subgroups"))
        fail(device.info().name, " cannot promise full subgroups; leave full_subgroups off");
    if (size == 0) return;
    if (!device.feature("subgroup_size_control"))
        fail(device.info().name, " cannot fix the subgroup size; leave subgroup_size at 0");
    const uint64_t lo = device.limit("min_subgroup_size"), hi = device.limit("max_subgroup_size");
    if (size < lo || size > hi || (size & (size - 1)))
        fail("subgroup size ", size, " is not a power of two from ", lo, " to ", hi, ", the range of ",
             device.info().name);
}

// Drivers do not check these: the ones at hand compute something else, or crash.
void Pipeline::check_shader(const ShaderFacts& facts) const {
    const DeviceInfo& info = device_->info();
    check_capabilities(facts.capabilities, info);
    if (facts.shared_bytes > device_->limit("max_compute_shared_memory"))
        fail("the shader needs ", facts.shared_bytes, " bytes of shared memory; ", info.name, " has ",
             device_->limit("max_compute_shared_memory"), "; choose a smaller tile");
    if (facts.workgroup) {
        const auto [x, y, z] = *facts.workgroup;
        const auto [most_x, most_y, most_z] = info.max_workgroup_size;
        const bool fits = x >= 1 && y >= 1 && z >= 1 && x <= most_x && y <= most_y && z <= most_z;
        if (!fits || x * y * z > device_->limit("max_workgroup_invocations"))
            fail("a workgroup of ", x, " x ", y, " x ", z, " invocations is over the limit of ", info.name, ": ",
                 device_->limit("max_workgroup_invocations"), " in all, ", most_x, " x ", most_y, " x ", most_z);
    }
    if (facts.push_bytes > push_bytes_)
        fail("the shader reads ", facts.push_bytes, " bytes of push constants, but the pipeline declares ",
             push_bytes_);
    if (facts.other_sets) fail("the shader uses a descriptor set other than 0");
    for (const auto& [binding, type] : facts.bindings) {
        if (binding >= bindings_.size())
            fail("the shader uses binding ", binding, ", but the pipeline declares ", bindings_.size(), " bindings");
        if (bindings_[binding].type != type)
            fail("binding ", binding, " is a ", vk::to_string(type), " in the shader, but declared as a ",
                 vk::to_string(bindings_[binding].type));
    }
}

void Pipeline::create_layouts() {
    auto& device = *device_;
    std::vector<vk::DescriptorSetLayoutBinding> slots;
    for (uint32_t i = 0; i < bindings_.size(); ++i)
        slots.emplace_back(i, bindings_[i].type, 1, vk::ShaderStageFlagBits::eCompute);
    set_layout_ = device->createDescriptorSetLayout({{}, slots});
    vk::PushConstantRange push(vk::ShaderStageFlagBits::eCompute, 0, push_bytes_);
    vk::PipelineLayoutCreateInfo info({}, 1, &set_layout_, push_bytes_ ? 1 : 0, &push);
    layout_ = device->createPipelineLayout(info);
}

void Pipeline::create_handle(const std::vector<uint32_t>& spirv, const PipelineOptions& options) {
    auto& device = *device_;
    std::vector<uint32_t> values;
    std::vector<vk::SpecializationMapEntry> entries;
    for (const auto& [id, value] : options.specialization) {
        entries.emplace_back(id, static_cast<uint32_t>(values.size() * sizeof(uint32_t)), sizeof(uint32_t));
        values.push_back(value);
    }
    vk::SpecializationInfo specialization;
    specialization.setMapEntries(entries).setData<uint32_t>(values);

    auto module = device->createShaderModuleUnique({{}, spirv});
    vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo required(options.subgroup_size);
    vk::PipelineShaderStageCreateInfo stage({}, vk::ShaderStageFlagBits::eCompute, *module, "main", &specialization);
    if (options.subgroup_size) stage.pNext = &required;
    if (options.full_subgroups) stage.flags |= vk::PipelineShaderStageCreateFlagBits::eRequireFullSubgroups;
    handle_ = device->createComputePipeline(device.cache(), {{}, stage, layout_}).value;
}

} // namespace tlite
