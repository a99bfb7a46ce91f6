// Buffers, and the small staging buffer through which the host reaches those that are not mapped.
#pragma once
#include "device.hpp"

namespace tlite {

class Buffer {
  public:
    Buffer(std::shared_ptr<Device> device, uint64_t size, Placement placement);
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    uint64_t size() const { return memory_.size; }
    vk::Buffer handle() const { return memory_.buffer; }
    uint8_t* mapped() const { return static_cast<uint8_t*>(memory_.mapped); }
    const Device& device() const { return *device_; }

    /// Throws DeviceError unless [offset, offset + bytes) lies inside.
    void check(uint64_t offset, uint64_t bytes, const char* what) const;
    void write(const void* source, uint64_t bytes, uint64_t offset);
    void read(void* target, uint64_t bytes, uint64_t offset);

  private:
    std::shared_ptr<Device> device_;
    Allocation memory_;
};

/// Copies between host and device memory in pieces; each copy is ordered after all work submitted before it.
class Staging {
  public:
    explicit Staging(Device& device);
    ~Staging();
    Staging(const Staging&) = delete;
    Staging& operator=(const Staging&) = delete;

    void write(vk::Buffer target, const void* source, uint64_t bytes, uint64_t offset);
    void read(vk::Buffer source, void* target, uint64_t bytes, uint64_t offset);

  private:
    uint64_t reserve(uint64_t bytes);
    void copy(vk::Buffer from, vk::Buffer to, vk::BufferCopy region);

    Device& device_; // which owns this
    std::mutex mutex_;
    Allocation memory_;
    vk::CommandPool pool_;
    vk::CommandBuffer commands_;
    vk::Fence fence_;
};

} // namespace tlite
