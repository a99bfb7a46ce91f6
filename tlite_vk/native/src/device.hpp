// An opened device: queue, pipeline cache, and the account of its memory. Everything made from it shares its ownership.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <mutex>

#include "info.hpp"
#include "instance.hpp"
#include "profile.hpp"

namespace tlite {

class Staging;

/// One buffer with its own memory.
struct Allocation {
    vk::Buffer buffer;
    vk::DeviceMemory memory;
    void* mapped = nullptr;
    uint64_t size = 0;     ///< bytes asked for
    uint64_t reserved = 0; ///< bytes the driver takes for it
    uint32_t heap = 0;     ///< where they lie
};

enum class Placement {
    device, ///< device-local; mapped too where the device shares the host's memory
    host,   ///< host-visible and mapped, cached where there is such memory
};

struct DeviceOptions {
    bool low_priority = true; ///< ask for a queue that yields to others, where offered
    bool validation = false;  ///< the Khronos layer with synchronization checks
    std::string validation_log; ///< a file to append its messages to; empty: none
    bool staging = false;     ///< never map device memory, even where the host shares it
    Profile profile;          ///< what to believe of the device instead, where that is less
    uint64_t memory_limit = 0; ///< most bytes of all buffers together; 0: what the heaps hold
};

class Device : public std::enable_shared_from_this<Device> {
  public:
    Device(int64_t index, const DeviceOptions& options);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    const DeviceInfo& info() const { return info_; }
    bool feature(const char* name) const { return info_.features.at(name); }
    uint64_t limit(const char* name) const { return info_.limits.at(name); }
    bool low_priority() const { return low_priority_; }
    Instance& instance() { return *instance_; }
    vk::PhysicalDevice physical() const { return *physical_; }
    vk::Device operator*() const { return *logical_; }
    vk::Device* operator->() const { return logical_.get(); }

    // The three that kp::Sequence asks for.
    std::shared_ptr<vk::PhysicalDevice> shared_physical() const { return physical_; }
    std::shared_ptr<vk::Device> shared_logical() const { return logical_; }
    std::shared_ptr<vk::Queue> shared_queue() const { return queue_; }
    uint32_t family() const { return family_; }

    /// Throws DeviceError with the bytes asked for and in use where memory ends.
    Allocation allocate(uint64_t size, Placement placement);
    void release(Allocation& allocation) noexcept;
    uint64_t memory_used() const { return used_; }
    uint64_t memory_peak() const { return peak_; }
    uint64_t memory_limit() const { return memory_limit_; }
    void limit_memory(uint64_t bytes) { memory_limit_ = bytes; }

    /// Throws DeviceError if the device was lost: from then on nothing that it holds is to be trusted.
    void check_alive() const;
    bool lost() const { return lost_; }
    void set_lost() { lost_ = true; }
    /// Waits for a fence; false when the time is up. Throws vk::DeviceLostError, and the device is lost from then on.
    bool wait(vk::Fence fence, uint64_t nanoseconds);
    /// For tests: the device is lost at the submission that follows `submissions` more, or, with `waiting`, at its end.
    void fail_after(uint64_t submissions, bool waiting);

    /// Submits the command buffers in order; the fence is reset first. Any thread may call it.
    void submit(const std::vector<vk::CommandBuffer>& commands, vk::Fence fence);
    Staging& staging();

    vk::PipelineCache cache() const { return cache_; }
    std::vector<uint8_t> cache_data() const;
    /// False, and nothing changes, where the data is damaged or another device's or driver's.
    bool load_cache(const uint8_t* data, size_t size);

  private:
    void create(const Features& features, bool low_priority);
    uint32_t memory_type(uint32_t allowed, Placement placement) const;
    vk::DeviceMemory allocate_memory(const vk::MemoryRequirements& needs, uint32_t type);
    const char* reserve(uint64_t bytes, uint32_t heap);
    void unreserve(uint64_t bytes, uint32_t heap) noexcept;

    std::shared_ptr<Instance> instance_;
    std::shared_ptr<vk::PhysicalDevice> physical_;
    std::shared_ptr<vk::Device> logical_;
    std::shared_ptr<vk::Queue> queue_;
    uint32_t family_ = 0;
    bool low_priority_ = false, shares_memory_ = false;
    DeviceInfo info_;
    vk::PhysicalDeviceMemoryProperties memory_;
    vk::PipelineCache cache_;
    std::mutex queue_mutex_, staging_mutex_, account_mutex_;
    std::unique_ptr<Staging> staging_;
    std::atomic<uint64_t> used_{0}, peak_{0}, memory_limit_{0};
    std::array<uint64_t, VK_MAX_MEMORY_HEAPS> heap_used_{};
    uint64_t allocations_ = 0;
    std::atomic<bool> lost_{false};
    std::atomic<int64_t> submissions_left_{-1}; // until an injected loss; none where negative
    bool lost_while_waiting_ = false;
};

} // namespace tlite
