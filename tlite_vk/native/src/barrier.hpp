// The one barrier of this runtime: everything before it, for everything after it.
#pragma once
#include <vulkan/vulkan.hpp>

namespace tlite {

/// Orders compute and transfer work on both sides; with `host`, also lets the host read once the fence is signalled.
inline void record_global_barrier(vk::CommandBuffer commands, bool host = true) {
    using A = vk::AccessFlagBits;
    using S = vk::PipelineStageFlagBits;
    const auto work = S::eComputeShader | S::eTransfer;
    vk::MemoryBarrier memory(A::eShaderWrite | A::eTransferWrite,
                             A::eShaderRead | A::eShaderWrite | A::eUniformRead | A::eTransferRead | A::eTransferWrite);
    if (host) memory.dstAccessMask |= A::eHostRead;
    commands.pipelineBarrier(work, host ? work | S::eHost : work, {}, memory, nullptr, nullptr);
}

} // namespace tlite
