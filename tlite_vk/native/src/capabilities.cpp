#include "capabilities.hpp"

#include "errors.hpp"

namespace tlite {
namespace {

struct Needs {
    uint32_t capability; ///< numbers from the SPIR-V specification, section 3.31
    const char* name;
    const char* feature; ///< of DeviceInfo::features; null: every device of Vulkan 1.1 has it
};

constexpr Needs kNeeds[] = {
    {0, "Matrix", nullptr},
    {1, "Shader", nullptr},
    {46, "SampledBuffer", nullptr},
    {47, "ImageBuffer", nullptr},
    {50, "ImageQuery", nullptr},
    {9, "Float16", "float16"},
    {11, "Int64", "int64"},
    {22, "Int16", "int16"},
    {39, "Int8", "int8"},
    {61, "GroupNonUniform", "subgroup_basic"},
    {62, "GroupNonUniformVote", "subgroup_vote"},
    {63, "GroupNonUniformArithmetic", "subgroup_arithmetic"},
    {64, "GroupNonUniformBallot", "subgroup_ballot"},
    {65, "GroupNonUniformShuffle", "subgroup_shuffle"},
    {66, "GroupNonUniformShuffleRelative", "subgroup_shuffle_relative"},
    {67, "GroupNonUniformClustered", "subgroup_clustered"},
    {4433, "StorageBuffer16BitAccess", "storage16"},
    {4434, "UniformAndStorageBuffer16BitAccess", "uniform_storage16"},
    {4448, "StorageBuffer8BitAccess", "storage8"},
    {5345, "VulkanMemoryModel", "vulkan_memory_model"},
    {6016, "DotProductInputAll", "integer_dot_product"},
    {6017, "DotProductInput4x8Bit", "integer_dot_product"},
    {6018, "DotProductInput4x8BitPacked", "integer_dot_product"},
    {6019, "DotProduct", "integer_dot_product"},
    {6022, "CooperativeMatrixKHR", "cooperative_matrix"},
};

const Needs* find(uint32_t capability) {
    for (const auto& needs : kNeeds)
        if (needs.capability == capability) return &needs;
    return nullptr;
}

} // namespace

void check_capabilities(const std::set<uint32_t>& declared, const DeviceInfo& info) {
    for (uint32_t capability : declared) {
        const Needs* needs = find(capability);
        if (!needs) fail("the shader declares SPIR-V capability ", capability, ", which this runtime never enables");
        if (needs->feature && !info.features.at(needs->feature))
            fail("the shader declares ", needs->name, ", but ", info.name, " has no ", needs->feature,
                 "; choose a kernel without it");
    }
}

} // namespace tlite
