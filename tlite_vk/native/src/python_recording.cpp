// The Python class Recording.
#include <chrono>
#include <cmath>

#include "python.hpp"

namespace tlite {
namespace {

using PyWindow = std::tuple<const Handle<Buffer>*, uint64_t, uint64_t>;

Window window(const Handle<Buffer>* buffer, uint64_t offset, uint64_t bytes) {
    if (!buffer) fail("a window needs a buffer, not None");
    return {buffer->shared(), offset, bytes};
}

void dispatch(const Handle<Recording>& recording, const Handle<Pipeline>& pipeline,
              const std::vector<PyWindow>& windows, std::array<uint32_t, 3> groups, nb::bytes push) {
    std::vector<Window> bound;
    bound.reserve(windows.size());
    for (const auto& [buffer, offset, bytes] : windows) bound.push_back(window(buffer, offset, bytes));
    recording->dispatch(pipeline.shared(), std::move(bound), groups, std::string(push.c_str(), push.size()));
}

void submit(const Handle<Recording>& recording, uint32_t repeat) {
    auto shared = recording.shared();
    nb::gil_scoped_release release;
    shared->submit(repeat);
}

/// Waits in slices, so that Ctrl-C gets through; the submission then is still under way and can be waited for again.
bool wait(const Handle<Recording>& recording, std::optional<double> timeout) {
    using Clock = std::chrono::steady_clock;
    auto shared = recording.shared();
    constexpr double slice = 0.05;
    const auto begin = Clock::now();
    for (;;) {
        const double left = timeout ? *timeout - std::chrono::duration<double>(Clock::now() - begin).count() : slice;
        {
            nb::gil_scoped_release release;
            if (shared->wait(static_cast<uint64_t>(std::fmin(std::fmax(left, 0.0), slice) * 1e9))) return true;
        }
        if (PyErr_CheckSignals()) throw nb::python_error();
        if (timeout && left <= slice) return false;
    }
}

void run(const Handle<Recording>& recording, uint32_t repeat) {
    submit(recording, repeat);
    wait(recording, std::nullopt);
}

} // namespace

void bind_recordings(nb::module_& m) {
    using R = Handle<Recording>;
    nb::class_<R>(m, "Recording", "Commands recorded once and submitted many times. For one thread at a time.")
        .def("dispatch", &dispatch, "pipeline"_a, "windows"_a, "groups"_a, "push"_a = nb::bytes("", 0),
             "Runs groups = (x, y, z) workgroups; windows[i] = (buffer, offset, bytes) is bound to binding i.")
        .def(
            "barrier", [](const R& r) { r->barrier(); },
            "All work recorded so far happens, and is visible, before what follows.")
        .def(
            "copy",
            [](const R& r, const Handle<Buffer>& src, uint64_t src_offset, const Handle<Buffer>& dst,
               uint64_t dst_offset,
               uint64_t nbytes) { r->copy(window(&src, src_offset, nbytes), window(&dst, dst_offset, nbytes)); },
            "src"_a, "src_offset"_a, "dst"_a, "dst_offset"_a, "nbytes"_a)
        .def(
            "fill",
            [](const R& r, const Handle<Buffer>& buffer, uint64_t offset, uint64_t nbytes, uint32_t value) {
                r->fill(window(&buffer, offset, nbytes), value);
            },
            "buffer"_a, "offset"_a, "nbytes"_a, "value"_a,
            "Repeats a 32-bit value; offset and size are multiples of 4.")
        .def(
            "timestamp", [](const R& r) { return r->timestamp(); },
            "Notes the time when all work so far has ended; returns its index in timestamps().")
        .def(
            "end", [](const R& r) { r->end(); },
            "Closes the recording; a barrier towards later submissions and the host is added.")
        .def("submit", &submit, "repeat"_a = 1, "Starts it, `repeat` times in a row, in one submission.")
        .def("wait", &wait, "timeout_s"_a = nb::none(),
             "True when the submission has ended, False when the time is up first.")
        .def("run", &run, "repeat"_a = 1, "submit() and wait().")
        .def_prop_ro(
            "pending", [](const R& r) { return r->pending(); }, "whether a submission was not waited for yet")
        .def(
            "timestamps", [](const R& r) { return r->seconds(); },
            "Seconds since the first timestamp, of the last repetition.")
        .def("close", &R::close, "Waits for work under way and frees the commands.");
}

} // namespace tlite
