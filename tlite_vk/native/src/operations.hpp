// Our operations for kp::Sequence. Each keeps what it uses alive for as long as the sequence may run.
#pragma once
#include <kompute/operations/OpBase.hpp>

#include "barrier.hpp"
#include "memory.hpp"
#include "pipeline.hpp"

namespace tlite {

struct Operation : kp::OpBase {
    void preEval(const vk::CommandBuffer&) override {}
    void postEval(const vk::CommandBuffer&) override {}
};

/// Hands out the sequence's command buffer, which has no accessor; records nothing.
struct RevealOp final : Operation {
    explicit RevealOp(vk::CommandBuffer& target) : target(target) {}
    void record(const vk::CommandBuffer& commands) override { target = commands; }
    vk::CommandBuffer& target;
};

struct BarrierOp final : Operation {
    explicit BarrierOp(bool host) : host(host) {}
    void record(const vk::CommandBuffer& commands) override { record_global_barrier(commands, host); }
    bool host;
};

struct DispatchOp final : Operation {
    void record(const vk::CommandBuffer& commands) override {
        constexpr auto point = vk::PipelineBindPoint::eCompute;
        if (bind) commands.bindPipeline(point, pipeline->handle());
        if (set) commands.bindDescriptorSets(point, pipeline->layout(), 0, set, nullptr);
        if (!push.empty())
            commands.pushConstants(pipeline->layout(), vk::ShaderStageFlagBits::eCompute, 0,
                                   static_cast<uint32_t>(push.size()), push.data());
        commands.dispatch(groups[0], groups[1], groups[2]);
    }
    std::shared_ptr<Pipeline> pipeline;
    std::vector<std::shared_ptr<Buffer>> buffers;
    vk::DescriptorSet set;
    std::array<uint32_t, 3> groups;
    std::string push;
    bool bind = true; ///< false where the operation before it bound the same pipeline
};

struct CopyOp final : Operation {
    void record(const vk::CommandBuffer& commands) override {
        commands.copyBuffer(from->handle(), to->handle(), region);
    }
    std::shared_ptr<Buffer> from, to;
    vk::BufferCopy region;
};

struct FillOp final : Operation {
    void record(const vk::CommandBuffer& commands) override {
        commands.fillBuffer(buffer->handle(), offset, bytes, value);
    }
    std::shared_ptr<Buffer> buffer;
    uint64_t offset = 0, bytes = 0;
    uint32_t value = 0;
};

/// Writes the time when all work before it has ended; with `reset`, first clears the whole pool.
struct TimestampOp final : Operation {
    void record(const vk::CommandBuffer& commands) override {
        if (reset) commands.resetQueryPool(pool, 0, reset);
        commands.writeTimestamp(vk::PipelineStageFlagBits::eBottomOfPipe, pool, query);
    }
    vk::QueryPool pool;
    uint32_t query = 0, reset = 0;
};

} // namespace tlite
