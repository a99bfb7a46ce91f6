#include "device.hpp"

#include <algorithm>
#include <cstring>

#include "errors.hpp"
#include "memory.hpp"

namespace tlite {
namespace {

constexpr size_t kCacheHeader = 16 + VK_UUID_SIZE; // VkPipelineCacheHeaderVersionOne

} // namespace

Device::Device(int64_t index, const DeviceOptions& options)
    : instance_(std::make_shared<Instance>(options.validation, options.validation_log)) {
    physical_ = std::make_shared<vk::PhysicalDevice>(instance_->device(index));
    Features features(*physical_, instance_->api_version());
    info_ = lowered(describe(*instance_, *physical_, index, features), options.profile);
    features.leave_out(info_.features);
    memory_ = physical_->getMemoryProperties();
    memory_limit_ = options.memory_limit;
    family_ = compute_family(*physical_);
    shares_memory_ = !options.staging && (info_.type == "cpu" || info_.type == "integrated");
    create(features, options.low_priority);
    queue_ = std::make_shared<vk::Queue>(logical_->getQueue(family_, 0));
    cache_ = logical_->createPipelineCache({});
}

Device::~Device() {
    if (!logical_) return;
    try {
        logical_->waitIdle();
    } catch (const vk::SystemError&) { // lost: destroying is still allowed
    }
    staging_.reset();
    if (cache_) logical_->destroy(cache_);
    logical_->destroy();
}

void Device::create(const Features& features, bool low_priority) {
    const float priority = 1.0f;
    vk::DeviceQueueGlobalPriorityCreateInfoKHR global(vk::QueueGlobalPriorityKHR::eLow);
    vk::DeviceQueueCreateInfo queue({}, family_, 1, &priority);
    std::vector<const char*> extensions = features.enabled;
    if (const char* extension = priority_extension(features.available, low_priority)) {
        queue.pNext = &global;
        extensions.push_back(extension);
        low_priority_ = true;
    }
    vk::DeviceCreateInfo info({}, queue, {}, extensions);
    info.pNext = &features.core;
    try {
        logical_ = std::make_shared<vk::Device>(physical_->createDevice(info));
    } catch (const vk::SystemError&) {
        if (!low_priority_) throw;
        low_priority_ = false; // the priority is a hint that a driver may refuse
        create(features, false);
    }
}

uint32_t Device::memory_type(uint32_t allowed, Placement placement) const {
    using F = vk::MemoryPropertyFlagBits;
    const auto mapped = F::eHostVisible | F::eHostCoherent;
    std::vector<vk::MemoryPropertyFlags> wishes;
    if (placement == Placement::host) {
        wishes = {mapped | F::eHostCached, mapped};
    } else if (shares_memory_) {
        wishes = {F::eDeviceLocal | mapped | F::eHostCached, F::eDeviceLocal | mapped, F::eDeviceLocal};
    } else {
        wishes = {F::eDeviceLocal};
    }
    wishes.push_back({});
    for (auto wish : wishes)
        for (uint32_t i = 0; i < memory_.memoryTypeCount; ++i)
            if ((allowed >> i & 1) && (memory_.memoryTypes[i].propertyFlags & wish) == wish) return i;
    fail(info_.name, " offers no memory for a buffer");
}

vk::DeviceMemory Device::allocate_memory(const vk::MemoryRequirements& needs, uint32_t type) {
    const uint32_t heap = memory_.memoryTypes[type].heapIndex;
    const char* why = reserve(needs.size, heap);
    if (!why) {
        try {
            return logical_->allocateMemory({needs.size, type});
        } catch (const vk::OutOfDeviceMemoryError&) {
            why = "out of device memory";
        } catch (const vk::OutOfHostMemoryError&) {
            why = "out of host memory";
        }
        unreserve(needs.size, heap);
    }
    std::ostringstream limited;
    if (memory_limit_) limited << ", the limit is " << memory_limit_ << " (--max-memory)";
    fail(info_.name, ": cannot allocate ", needs.size, " bytes (", why, "); ", used_.load(),
         " bytes are in use and the heap has ", memory_.memoryHeaps[heap].size, limited.str(),
         "; use a smaller model, context or chunk");
}

/// Enters an allocation into the account before it is made, so that no two threads take the same rest; or says why not.
const char* Device::reserve(uint64_t bytes, uint32_t heap) {
    std::lock_guard<std::mutex> lock(account_mutex_);
    const uint64_t limited = memory_limit_;
    if (bytes > memory_.memoryHeaps[heap].size) return "more than its memory";
    if (bytes > limit("max_allocation_size")) return "more than it allocates at once";
    if (bytes > memory_.memoryHeaps[heap].size - std::min(heap_used_[heap], memory_.memoryHeaps[heap].size))
        return "more than is left of its memory";
    if (limited && (used_ > limited || bytes > limited - used_)) return "more than the memory limit allows";
    if (allocations_ >= limit("max_allocation_count")) return "too many buffers";
    ++allocations_;
    heap_used_[heap] += bytes;
    used_ += bytes;
    if (used_ > peak_) peak_ = used_.load();
    return nullptr;
}

void Device::unreserve(uint64_t bytes, uint32_t heap) noexcept {
    std::lock_guard<std::mutex> lock(account_mutex_);
    --allocations_;
    heap_used_[heap] -= bytes;
    used_ -= bytes;
}

Allocation Device::allocate(uint64_t size, Placement placement) {
    check_alive();
    if (size == 0) fail("a buffer needs at least one byte");
    if (size > limit("max_buffer_size"))
        fail(info_.name, ": a buffer of ", size, " bytes is over the device's limit of ", limit("max_buffer_size"),
             "; ", used_.load(), " bytes are in use");
    using U = vk::BufferUsageFlagBits;
    vk::BufferCreateInfo info({}, (size + 15) / 16 * 16,
                              U::eStorageBuffer | U::eUniformBuffer | U::eUniformTexelBuffer | U::eTransferSrc |
                                  U::eTransferDst | U::eIndirectBuffer);
    Allocation made;
    made.size = size;
    made.buffer = logical_->createBuffer(info);
    try {
        const auto needs = logical_->getBufferMemoryRequirements(made.buffer);
        const uint32_t type = memory_type(needs.memoryTypeBits, placement);
        made.memory = allocate_memory(needs, type);
        made.reserved = needs.size;
        made.heap = memory_.memoryTypes[type].heapIndex;
        logical_->bindBufferMemory(made.buffer, made.memory, 0);
        if (memory_.memoryTypes[type].propertyFlags & vk::MemoryPropertyFlagBits::eHostVisible)
            if (placement == Placement::host || shares_memory_)
                made.mapped = logical_->mapMemory(made.memory, 0, VK_WHOLE_SIZE);
    } catch (...) {
        if (made.memory) logical_->free(made.memory);
        if (made.reserved) unreserve(made.reserved, made.heap);
        logical_->destroy(made.buffer);
        throw;
    }
    return made;
}

void Device::release(Allocation& allocation) noexcept {
    if (!allocation.buffer) return;
    logical_->destroy(allocation.buffer);
    logical_->free(allocation.memory);
    unreserve(allocation.reserved, allocation.heap);
    allocation = {};
}

void Device::check_alive() const {
    if (lost_) fail(info_.name, " was lost; close what was made from it and open it again");
}

void Device::fail_after(uint64_t submissions, bool waiting) {
    lost_while_waiting_ = waiting;
    submissions_left_ = static_cast<int64_t>(std::min<uint64_t>(submissions, INT64_MAX));
}

void Device::submit(const std::vector<vk::CommandBuffer>& commands, vk::Fence fence) {
    check_alive();
    logical_->resetFences(fence);
    vk::SubmitInfo info({}, {}, commands);
    std::lock_guard<std::mutex> lock(queue_mutex_);
    const bool injected = submissions_left_ >= 0 && submissions_left_-- == 0;
    try {
        if (injected && !lost_while_waiting_) throw vk::DeviceLostError("injected for a test");
        queue_->submit(info, fence);
    } catch (const vk::DeviceLostError&) {
        lost_ = true;
        throw;
    }
    if (injected) lost_ = true; // what was submitted runs to its end, which nobody may rely on
}

bool Device::wait(vk::Fence fence, uint64_t nanoseconds) {
    try {
        const auto result = logical_->waitForFences(fence, VK_TRUE, nanoseconds);
        if (result == vk::Result::eTimeout) return false;
        if (lost_) throw vk::DeviceLostError("lost before");
        return true;
    } catch (const vk::DeviceLostError&) {
        lost_ = true;
        throw;
    }
}

Staging& Device::staging() {
    std::lock_guard<std::mutex> lock(staging_mutex_);
    if (!staging_) staging_ = std::make_unique<Staging>(*this);
    return *staging_;
}

std::vector<uint8_t> Device::cache_data() const { return logical_->getPipelineCacheData(cache_); }

bool Device::load_cache(const uint8_t* data, size_t size) {
    if (size < kCacheHeader) return false;
    uint32_t head[4]; // length, version, vendor, device
    std::memcpy(head, data, sizeof head);
    const auto own = physical_->getProperties();
    if (head[0] != kCacheHeader || head[1] != VK_PIPELINE_CACHE_HEADER_VERSION_ONE || head[2] != own.vendorID ||
        head[3] != own.deviceID || std::memcmp(data + 16, own.pipelineCacheUUID.data(), VK_UUID_SIZE) != 0)
        return false;
    try {
        vk::PipelineCache loaded = logical_->createPipelineCache({{}, size, data});
        logical_->mergePipelineCaches(cache_, loaded);
        logical_->destroy(loaded);
    } catch (const vk::SystemError&) {
        return false;
    }
    return true;
}

} // namespace tlite
