// A compute pipeline with the layout of its one descriptor set.
#pragma once
#include "device.hpp"
#include "shader_facts.hpp"

namespace tlite {

/// What one binding of a shader is.
struct Binding {
    vk::DescriptorType type;
    vk::Format format = vk::Format::eUndefined; ///< of a texel buffer
    uint32_t texel = 0;                         ///< bytes of one texel

    /// From 'storage', 'uniform' or 'texel_FORMAT'; throws DeviceError listing the formats.
    static Binding parse(const std::string& name);
};

struct PipelineOptions {
    std::vector<std::pair<uint32_t, uint32_t>> specialization; ///< constant id, value
    uint32_t push_bytes = 0;
    uint32_t subgroup_size = 0; ///< 0 leaves it to the driver
    bool full_subgroups = false;
};

class Pipeline {
  public:
    Pipeline(std::shared_ptr<Device> device, const std::vector<uint32_t>& spirv,
             const std::vector<std::string>& bindings, const PipelineOptions& options);
    ~Pipeline();
    Pipeline(const Pipeline&) = delete;
    Pipeline& operator=(const Pipeline&) = delete;

    const Device& device() const { return *device_; }
    const std::vector<Binding>& bindings() const { return bindings_; }
    uint32_t push_bytes() const { return push_bytes_; }
    vk::Pipeline handle() const { return handle_; }
    vk::PipelineLayout layout() const { return layout_; }
    vk::DescriptorSetLayout set_layout() const { return set_layout_; }

  private:
    void check(const PipelineOptions& options) const;
    void check_shader(const ShaderFacts& facts) const;
    void check_subgroups(const PipelineOptions& options) const;
    void create_layouts();
    void create_handle(const std::vector<uint32_t>& spirv, const PipelineOptions& options);
    void destroy() noexcept;

    std::shared_ptr<Device> device_;
    std::vector<Binding> bindings_;
    uint32_t push_bytes_;
    vk::DescriptorSetLayout set_layout_;
    vk::PipelineLayout layout_;
    vk::Pipeline handle_;
};

} // namespace tlite
