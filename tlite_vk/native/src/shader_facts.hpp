// What a SPIR-V module asks of a device, read before the driver sees it: drivers crash where it is too much.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>
#include <vulkan/vulkan.hpp>

namespace tlite {

struct ShaderFacts {
    std::optional<std::array<uint64_t, 3>> workgroup; ///< invocations along x, y, z
    uint64_t shared_bytes = 0;                        ///< at least: padding is the driver's
    uint64_t push_bytes = 0;                          ///< up to the end of the last member
    std::map<uint32_t, vk::DescriptorType> bindings;  ///< of descriptor set 0
    std::set<uint32_t> capabilities;                  ///< as declared, in SPIR-V's numbers
    bool other_sets = false;                          ///< something is bound outside set 0
};

/// Reads the facts with specialization constants (id, value) applied. Throws DeviceError where the module is damaged.
ShaderFacts read_facts(const std::vector<uint32_t>& spirv,
                       const std::vector<std::pair<uint32_t, uint32_t>>& specialization);

} // namespace tlite
