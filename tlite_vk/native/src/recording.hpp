// Work recorded once and submitted many times: kp::Sequence holds the commands, a kept fence ends each submission.
#pragma once
#include <kompute/Sequence.hpp>

#include "memory.hpp"
#include "pipeline.hpp"

namespace tlite {

/// A range of a buffer, bound to one binding of a shader.
struct Window {
    std::shared_ptr<Buffer> buffer;
    uint64_t offset, bytes;
};

/// Descriptor sets, from pools that grow; they live as long as this.
class DescriptorSets {
  public:
    explicit DescriptorSets(Device& device) : device_(device) {}
    ~DescriptorSets();
    DescriptorSets(const DescriptorSets&) = delete;
    DescriptorSets& operator=(const DescriptorSets&) = delete;

    /// A set that binds windows[i] to binding i; both were checked.
    vk::DescriptorSet make(const Pipeline& pipeline, const std::vector<Window>& windows);

  private:
    vk::DescriptorSet allocate(const Pipeline& pipeline);
    void grow(const std::array<uint32_t, 3>& needed);

    Device& device_;
    std::vector<vk::DescriptorPool> pools_;
    std::array<uint32_t, 3> left_{}; // of the last pool: storage, uniform, texel descriptors
    uint32_t sets_left_ = 0;
    std::vector<vk::BufferView> views_;
};

class Recording {
  public:
    explicit Recording(std::shared_ptr<Device> device);
    /// Waits for a submission under way.
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void dispatch(std::shared_ptr<Pipeline> pipeline, std::vector<Window> windows, std::array<uint32_t, 3> groups,
                  std::string push);
    void barrier();
    void copy(Window from, Window to);
    void fill(Window target, uint32_t value);
    /// Returns the index of its result in seconds().
    uint32_t timestamp();
    /// Closes the recording with a barrier towards later submissions and the host.
    void end();

    void submit(uint32_t repeat);
    /// True when the submission has ended, false when the time is up; a wait in between is no harm.
    bool wait(uint64_t nanoseconds);
    bool pending() const { return state_ == State::pending; }
    /// Of the last submission (its last repetition), relative to the first timestamp.
    std::vector<double> seconds() const;

  private:
    enum class State { recording, ready, pending, lost };

    void check_recording() const;
    void check_window(const Window& window, const Binding& binding, size_t index) const;
    void record(std::shared_ptr<kp::OpBase> operation);

    std::shared_ptr<Device> device_; // first, so that it goes last
    DescriptorSets sets_;
    std::shared_ptr<kp::Sequence> sequence_;
    vk::CommandBuffer commands_;
    vk::Fence fence_;
    std::vector<vk::QueryPool> queries_;
    uint32_t timestamps_ = 0;
    bool submitted_ = false;
    State state_ = State::recording;
    vk::Pipeline bound_;
};

} // namespace tlite
