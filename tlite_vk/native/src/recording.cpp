#include "recording.hpp"

#include <algorithm>
#include <chrono>

#include "errors.hpp"
#include "operations.hpp"

namespace tlite {
namespace {

/// A sleeping host learns tens of microseconds late that a GPU has ended: it watches the fence for so long first.
constexpr uint64_t kWatch = 4'000'000; // nanoseconds
constexpr uint32_t kSetsPerPool = 64, kQueriesPerPool = 64, kMaxRepeat = 1u << 16;
constexpr vk::DescriptorType kTypes[] = {vk::DescriptorType::eStorageBuffer, vk::DescriptorType::eUniformBuffer,
                                         vk::DescriptorType::eUniformTexelBuffer};

size_t slot(vk::DescriptorType type) { return type == kTypes[0] ? 0 : type == kTypes[1] ? 1 : 2; }

std::array<uint32_t, 3> count(const Pipeline& pipeline) {
    std::array<uint32_t, 3> needed{};
    for (const auto& binding : pipeline.bindings()) ++needed[slot(binding.type)];
    return needed;
}

} // namespace

DescriptorSets::~DescriptorSets() {
    for (auto pool : pools_) device_->destroy(pool);
    for (auto view : views_) device_->destroy(view);
}

void DescriptorSets::grow(const std::array<uint32_t, 3>& needed) {
    std::vector<vk::DescriptorPoolSize> sizes;
    constexpr std::array<uint32_t, 3> usual = {8 * kSetsPerPool, 2 * kSetsPerPool, 2 * kSetsPerPool};
    for (size_t i = 0; i < 3; ++i) {
        left_[i] = std::max(usual[i], needed[i]);
        sizes.emplace_back(kTypes[i], left_[i]);
    }
    sets_left_ = kSetsPerPool;
    pools_.push_back(device_->createDescriptorPool({{}, sets_left_, sizes}));
}

vk::DescriptorSet DescriptorSets::allocate(const Pipeline& pipeline) {
    const auto needed = count(pipeline);
    bool fits = sets_left_ > 0;
    for (size_t i = 0; i < 3; ++i) fits = fits && needed[i] <= left_[i];
    if (!fits) grow(needed);
    --sets_left_;
    for (size_t i = 0; i < 3; ++i) left_[i] -= needed[i];
    const vk::DescriptorSetLayout layout = pipeline.set_layout();
    const vk::DescriptorSetAllocateInfo info(pools_.back(), 1, &layout);
    vk::DescriptorSet set;
    if (device_->allocateDescriptorSets(&info, &set) != vk::Result::eSuccess) fail("out of memory for descriptor sets");
    return set;
}

vk::DescriptorSet DescriptorSets::make(const Pipeline& pipeline, const std::vector<Window>& windows) {
    const size_t n = windows.size();
    if (n == 0) return {};
    const auto set = allocate(pipeline);
    std::vector<vk::DescriptorBufferInfo> ranges(n);
    std::vector<vk::WriteDescriptorSet> writes(n);
    views_.reserve(views_.size() + n); // addresses below stay valid
    for (size_t i = 0; i < n; ++i) {
        const auto& binding = pipeline.bindings()[i];
        const auto& window = windows[i];
        writes[i] = vk::WriteDescriptorSet(set, static_cast<uint32_t>(i), 0, 1, binding.type);
        if (binding.texel) {
            views_.push_back(
                device_->createBufferView({{}, window.buffer->handle(), binding.format, window.offset, window.bytes}));
            writes[i].pTexelBufferView = &views_.back();
        } else {
            ranges[i] = vk::DescriptorBufferInfo(window.buffer->handle(), window.offset, window.bytes);
            writes[i].pBufferInfo = &ranges[i];
        }
    }
    device_->updateDescriptorSets(writes, nullptr);
    return set;
}

Recording::Recording(std::shared_ptr<Device> device) : device_(std::move(device)), sets_(*device_) {
    auto& d = *device_;
    d.check_alive();
    sequence_ = std::make_shared<kp::Sequence>(d.shared_physical(), d.shared_logical(), d.shared_queue(), d.family());
    if (!sequence_->isInit()) fail("no command buffer could be made");
    fence_ = d->createFence({});
    record(std::make_shared<RevealOp>(commands_));
}

Recording::~Recording() {
    auto& d = *device_;
    if (pending()) {
        try {
            wait(UINT64_MAX);
        } catch (const std::exception&) { // lost: destroying is still allowed
        }
    }
    sequence_.reset();
    for (auto pool : queries_) d->destroy(pool);
    if (fence_) d->destroy(fence_);
}

void Recording::check_recording() const {
    if (state_ != State::recording) fail("this recording has ended; record into a new one");
}

void Recording::record(std::shared_ptr<kp::OpBase> operation) {
    check_recording();
    sequence_->record(std::move(operation));
}

void Recording::check_window(const Window& window, const Binding& binding, size_t index) const {
    const Device& d = *device_;
    if (&window.buffer->device() != device_.get()) fail("window ", index, " lies in a buffer of another device");
    window.buffer->check(window.offset, window.bytes, "a window");
    if (window.bytes == 0) fail("window ", index, " is empty");
    const char *alignment = "min_storage_offset_alignment", *range = "max_storage_buffer_range";
    if (binding.type == vk::DescriptorType::eUniformBuffer) {
        alignment = "min_uniform_offset_alignment", range = "max_uniform_buffer_range";
    } else if (binding.texel) {
        alignment = "min_texel_offset_alignment", range = "max_texel_buffer_elements";
    }
    if (window.offset % d.limit(alignment))
        fail("window ", index, " starts at ", window.offset, ", not a multiple of ", d.limit(alignment), " (",
             alignment, ")");
    const uint64_t unit = binding.texel ? binding.texel : 1;
    if (window.bytes % unit)
        fail("window ", index, " of ", window.bytes, " bytes does not hold whole texels of ", unit, " bytes");
    if (window.bytes / unit > d.limit(range))
        fail("window ", index, " of ", window.bytes, " bytes is over the device's ", range, ", ", d.limit(range),
             "; split it");
}

void Recording::dispatch(std::shared_ptr<Pipeline> pipeline, std::vector<Window> windows,
                         std::array<uint32_t, 3> groups, std::string push) {
    check_recording();
    if (&pipeline->device() != device_.get()) fail("the pipeline belongs to another device");
    const auto& bindings = pipeline->bindings();
    if (windows.size() != bindings.size())
        fail("the pipeline has ", bindings.size(), " bindings, but ", windows.size(), " windows were given");
    for (size_t i = 0; i < windows.size(); ++i) check_window(windows[i], bindings[i], i);
    if (push.size() != pipeline->push_bytes())
        fail("the pipeline takes ", pipeline->push_bytes(), " bytes of push constants, not ", push.size());
    const auto [x, y, z] = device_->info().max_workgroup_count;
    const uint64_t most[] = {x, y, z};
    for (size_t i = 0; i < 3; ++i)
        if (groups[i] > most[i] || groups[i] == 0)
            fail("workgroup count ", groups[i], " along ", "xyz"[i], " is not in 1..", most[i]);
    auto op = std::make_shared<DispatchOp>();
    op->set = sets_.make(*pipeline, windows);
    op->buffers.reserve(windows.size());
    for (auto& window : windows) op->buffers.push_back(std::move(window.buffer));
    op->bind = pipeline->handle() != bound_;
    bound_ = pipeline->handle();
    op->pipeline = std::move(pipeline);
    op->groups = groups;
    op->push = std::move(push);
    record(std::move(op));
}

void Recording::barrier() { record(std::make_shared<BarrierOp>(false)); }

void Recording::copy(Window from, Window to) {
    from.buffer->check(from.offset, from.bytes, "a copy");
    to.buffer->check(to.offset, to.bytes, "a copy");
    if (&from.buffer->device() != device_.get() || &to.buffer->device() != device_.get())
        fail("a copy needs two buffers of the recording's device");
    if (from.bytes == 0) fail("a copy needs at least one byte");
    if (from.buffer == to.buffer && from.offset < to.offset + to.bytes && to.offset < from.offset + from.bytes)
        fail("a copy within one buffer must not overlap itself");
    auto op = std::make_shared<CopyOp>();
    op->region = vk::BufferCopy(from.offset, to.offset, from.bytes);
    op->from = std::move(from.buffer);
    op->to = std::move(to.buffer);
    record(std::move(op));
}

void Recording::fill(Window target, uint32_t value) {
    target.buffer->check(target.offset, target.bytes, "a fill");
    if (&target.buffer->device() != device_.get()) fail("the buffer belongs to another device");
    if (target.offset % 4 || target.bytes % 4 || target.bytes == 0)
        fail("a fill takes an offset and a size that are multiples of 4, not ", target.offset, " and ", target.bytes);
    auto op = std::make_shared<FillOp>();
    op->buffer = std::move(target.buffer);
    op->offset = target.offset;
    op->bytes = target.bytes;
    op->value = value;
    record(std::move(op));
}

uint32_t Recording::timestamp() {
    check_recording();
    if (device_->limit("timestamp_valid_bits") == 0)
        fail(device_->info().name, " has no timestamps on its compute queue");
    auto op = std::make_shared<TimestampOp>();
    op->query = timestamps_ % kQueriesPerPool;
    if (op->query == 0) {
        op->reset = kQueriesPerPool;
        queries_.push_back((*device_)->createQueryPool({{}, vk::QueryType::eTimestamp, kQueriesPerPool}));
    }
    op->pool = queries_.back();
    record(std::move(op));
    return timestamps_++;
}

void Recording::end() {
    record(std::make_shared<BarrierOp>(true));
    sequence_->end();
    state_ = State::ready;
}

void Recording::submit(uint32_t repeat) {
    if (state_ == State::recording) fail("end() the recording before submitting it");
    if (state_ == State::pending) fail("the recording was submitted already; wait() for it first");
    device_->check_alive();
    if (repeat == 0 || repeat > kMaxRepeat)
        fail("a recording is submitted 1 to ", kMaxRepeat, " times at once, not ", repeat);
    device_->submit(std::vector<vk::CommandBuffer>(repeat, commands_), fence_);
    state_ = State::pending;
    submitted_ = true;
}

bool Recording::wait(uint64_t limit) {
    if (!pending()) fail("nothing to wait for: submit() the recording first");
    try {
        if (device_->info().type != "cpu") {
            using namespace std::chrono;
            const auto until = steady_clock::now() + nanoseconds(std::min(limit, kWatch));
            while ((*device_)->getFenceStatus(fence_) == vk::Result::eNotReady && steady_clock::now() < until) {}
        }
        if (!device_->wait(fence_, limit)) return false;
    } catch (const vk::SystemError&) {
        state_ = State::lost;
        device_->set_lost();
        throw;
    }
    state_ = State::ready;
    return true;
}

std::vector<double> Recording::seconds() const {
    device_->check_alive();
    if (pending() || !submitted_) fail("timestamps are there after submit() and wait()");
    const uint64_t bits = device_->limit("timestamp_valid_bits");
    const uint64_t mask = bits >= 64 ? ~0ull : (1ull << bits) - 1;
    std::vector<uint64_t> ticks(timestamps_);
    for (uint32_t first = 0; first < timestamps_; first += kQueriesPerPool) {
        const uint32_t n = std::min(kQueriesPerPool, timestamps_ - first);
        auto result = (*device_)->getQueryPoolResults(queries_[first / kQueriesPerPool], 0, n, n * sizeof(uint64_t),
                                                      &ticks[first], sizeof(uint64_t), vk::QueryResultFlagBits::e64);
        if (result != vk::Result::eSuccess) fail("the device returned no timestamps");
    }
    std::vector<double> seconds;
    for (uint64_t tick : ticks)
        seconds.push_back(static_cast<double>((tick - ticks[0]) & mask) * device_->info().timestamp_period * 1e-9);
    return seconds;
}

} // namespace tlite
