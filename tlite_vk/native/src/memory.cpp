#include "memory.hpp"

#include <algorithm>
#include <cstring>

#include "barrier.hpp"
#include "errors.hpp"

namespace tlite {
namespace {

constexpr uint64_t kSmallest = 1 << 16, kPiece = 16 << 20;

} // namespace

Buffer::Buffer(std::shared_ptr<Device> device, uint64_t size, Placement placement)
    : device_(std::move(device)), memory_(device_->allocate(size, placement)) {}

Buffer::~Buffer() { device_->release(memory_); }

void Buffer::check(uint64_t offset, uint64_t bytes, const char* what) const {
    if (offset > size() || bytes > size() - offset)
        fail(what, " of ", bytes, " bytes at offset ", offset, " does not fit a buffer of ", size(), " bytes");
}

void Buffer::write(const void* source, uint64_t bytes, uint64_t offset) {
    check(offset, bytes, "a write");
    device_->check_alive();
    if (mapped())
        std::memcpy(mapped() + offset, source, bytes);
    else
        device_->staging().write(handle(), source, bytes, offset);
}

void Buffer::read(void* target, uint64_t bytes, uint64_t offset) {
    check(offset, bytes, "a read");
    device_->check_alive();
    if (mapped())
        std::memcpy(target, mapped() + offset, bytes);
    else
        device_->staging().read(handle(), target, bytes, offset);
}

Staging::Staging(Device& device) : device_(device) {
    pool_ = device_->createCommandPool({vk::CommandPoolCreateFlagBits::eResetCommandBuffer, device_.family()});
    commands_ = device_->allocateCommandBuffers({pool_, vk::CommandBufferLevel::ePrimary, 1}).front();
    fence_ = device_->createFence({});
}

Staging::~Staging() {
    device_->destroy(fence_);
    device_->destroy(pool_);
    device_.release(memory_);
}

/// Grows the staging buffer towards `bytes`, never beyond one piece; returns its size.
uint64_t Staging::reserve(uint64_t bytes) {
    uint64_t wanted = kSmallest;
    while (wanted < std::min(bytes, kPiece)) wanted *= 2;
    if (memory_.size < wanted) {
        device_.release(memory_);
        memory_ = device_.allocate(wanted, Placement::host);
    }
    return memory_.size;
}

void Staging::copy(vk::Buffer from, vk::Buffer to, vk::BufferCopy region) {
    commands_.begin({vk::CommandBufferUsageFlagBits::eOneTimeSubmit});
    record_global_barrier(commands_);
    commands_.copyBuffer(from, to, region);
    record_global_barrier(commands_);
    commands_.end();
    device_.submit({commands_}, fence_);
    if (!device_.wait(fence_, UINT64_MAX)) fail("a copy to or from the device did not end");
}

void Staging::write(vk::Buffer target, const void* source, uint64_t bytes, uint64_t offset) {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t piece = reserve(bytes);
    for (uint64_t done = 0; done < bytes; done += piece) {
        const uint64_t now = std::min(piece, bytes - done);
        std::memcpy(memory_.mapped, static_cast<const uint8_t*>(source) + done, now);
        copy(memory_.buffer, target, {0, offset + done, now});
    }
}

void Staging::read(vk::Buffer source, void* target, uint64_t bytes, uint64_t offset) {
    std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t piece = reserve(bytes);
    for (uint64_t done = 0; done < bytes; done += piece) {
        const uint64_t now = std::min(piece, bytes - done);
        copy(source, memory_.buffer, {offset + done, 0, now});
        std::memcpy(static_cast<uint8_t*>(target) + done, memory_.mapped, now);
    }
}

} // namespace tlite
