// The Python face: handles that can be closed, over objects that share ownership of what they need.
#include <chrono>
#include <cmath>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "errors.hpp"
#include "recording.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace tlite {
namespace {

using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>, nb::c_contig>;
using Specialization = std::variant<std::map<uint32_t, int64_t>, std::vector<int64_t>>;

/// What Python holds: shared ownership that close() gives up early.
template <typename T>
struct Handle {
    std::shared_ptr<T> object;
    static const char* const name;

    T& operator*() const { return *shared(); }
    T* operator->() const { return shared().get(); }
    const std::shared_ptr<T>& shared() const {
        if (!object) fail("this ", name, " is closed");
        return object;
    }
    void close() {
        nb::gil_scoped_release release;
        object.reset();
    }
};
template <> const char* const Handle<Device>::name = "device";
template <> const char* const Handle<Buffer>::name = "buffer";
template <> const char* const Handle<Pipeline>::name = "pipeline";
template <> const char* const Handle<Recording>::name = "recording";

/// The contiguous bytes of any object with Python's buffer protocol.
struct View {
    View(nb::handle source, bool writable) {
        if (PyObject_GetBuffer(source.ptr(), &raw, PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0)) == 0) return;
        PyErr_Clear();
        fail(writable ? "read_into needs a writable, C-contiguous array" : "write needs a C-contiguous array or bytes");
    }
    ~View() { PyBuffer_Release(&raw); }
    View(const View&) = delete;
    View& operator=(const View&) = delete;
    uint64_t size() const { return static_cast<uint64_t>(raw.len); }
    Py_buffer raw{};
};

std::vector<DeviceInfo> list_devices() {
    Instance instance(false);
    std::vector<DeviceInfo> found;
    for (auto device : instance.devices()) {
        const Features features(device, instance.api_version());
        found.push_back(describe(instance, device, static_cast<int64_t>(found.size()), features));
    }
    return found;
}

Handle<Device> open(int64_t index, bool low_priority, bool validation, bool staging) {
    nb::gil_scoped_release release;
    return {std::make_shared<Device>(index, DeviceOptions{low_priority, validation, staging})};
}

Handle<Buffer> buffer(const Handle<Device>& device, uint64_t nbytes, bool host) {
    return {std::make_shared<Buffer>(device.shared(), nbytes, host ? Placement::host : Placement::device)};
}

std::vector<std::pair<uint32_t, uint32_t>> constants(const Specialization& given) {
    std::vector<std::pair<uint32_t, uint32_t>> result;
    auto add = [&](uint32_t id, int64_t value) {
        if (value < INT32_MIN || value > UINT32_MAX) fail("specialization constant ", id, " = ", value, " does not fit 32 bits");
        result.emplace_back(id, static_cast<uint32_t>(value));
    };
    if (auto* map = std::get_if<0>(&given)) {
        for (const auto& [id, value] : *map) add(id, value);
    } else {
        for (int64_t value : std::get<1>(given)) add(static_cast<uint32_t>(result.size()), value);
    }
    return result;
}

Handle<Pipeline> pipeline(const Handle<Device>& device, nb::bytes spirv, const std::vector<std::string>& bindings,
                          const Specialization& specialization, uint32_t push_bytes, uint32_t subgroup_size, bool full_subgroups) {
    if (spirv.size() % 4) fail("a SPIR-V module is a whole number of 4-byte words, not ", spirv.size(), " bytes");
    std::vector<uint32_t> words(spirv.size() / 4);
    std::memcpy(words.data(), spirv.c_str(), spirv.size());
    const PipelineOptions options{constants(specialization), push_bytes, subgroup_size, full_subgroups};
    auto shared = device.shared();
    nb::gil_scoped_release release;
    return {std::make_shared<Pipeline>(std::move(shared), words, bindings, options)};
}

Bytes own(std::vector<uint8_t>&& data) {
    auto* kept = new std::vector<uint8_t>(std::move(data));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<uint8_t>*>(p); });
    return Bytes(kept->data(), {kept->size()}, owner);
}

void write(const Handle<Buffer>& buffer, nb::handle data, uint64_t offset) {
    const View view(data, false);
    auto shared = buffer.shared();
    nb::gil_scoped_release release;
    shared->write(view.raw.buf, view.size(), offset);
}

Bytes read(const Handle<Buffer>& buffer, std::optional<uint64_t> nbytes, uint64_t offset) {
    auto shared = buffer.shared();
    const uint64_t rest = offset < shared->size() ? shared->size() - offset : 0;
    const uint64_t bytes = nbytes.value_or(rest);
    shared->check(offset, bytes, "a read");
    std::vector<uint8_t> data(bytes);
    {
        nb::gil_scoped_release release;
        shared->read(data.data(), bytes, offset);
    }
    return own(std::move(data));
}

void read_into(const Handle<Buffer>& buffer, nb::handle target, uint64_t offset) {
    const View view(target, true);
    auto shared = buffer.shared();
    nb::gil_scoped_release release;
    shared->read(view.raw.buf, view.size(), offset);
}

/// A view that keeps the memory alive by itself, whatever happens to the handle.
std::optional<Bytes> mapped(const Handle<Buffer>& buffer) {
    auto* kept = new std::shared_ptr<Buffer>(buffer.shared());
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::shared_ptr<Buffer>*>(p); });
    if (!(*kept)->mapped()) return std::nullopt;
    return Bytes((*kept)->mapped(), {(*kept)->size()}, owner);
}

using PyWindow = std::tuple<const Handle<Buffer>*, uint64_t, uint64_t>;

Window window(const Handle<Buffer>* buffer, uint64_t offset, uint64_t bytes) {
    if (!buffer) fail("a window needs a buffer, not None");
    return {buffer->shared(), offset, bytes};
}

void dispatch(const Handle<Recording>& recording, const Handle<Pipeline>& pipeline, const std::vector<PyWindow>& windows,
              std::array<uint32_t, 3> groups, nb::bytes push) {
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

std::string message(const vk::SystemError& error) {
    switch (static_cast<vk::Result>(error.code().value())) {
    case vk::Result::eErrorDeviceLost:
        return "the device was lost: its driver stopped or reset it (too long a submission, or a fault); open it again";
    case vk::Result::eErrorOutOfDeviceMemory: return "out of device memory; use a smaller model, context or chunk";
    case vk::Result::eErrorOutOfHostMemory: return "out of host memory; use a smaller model, context or chunk";
    default: return std::string("the Vulkan driver refused: ") + error.what();
    }
}

void register_errors() {
    // Kept for the life of the process.
    static PyObject* const type = nb::object(nb::module_::import_("tlite_vk.errors").attr("DeviceError")).release().ptr();
    nb::register_exception_translator(
        [](const std::exception_ptr& p, void* payload) {
            try {
                std::rethrow_exception(p);
            } catch (const DeviceError& error) {
                PyErr_SetString(static_cast<PyObject*>(payload), error.what());
            } catch (const vk::SystemError& error) {
                PyErr_SetString(static_cast<PyObject*>(payload), message(error).c_str());
            }
        },
        type);
}

void bind_info(nb::module_& m) {
    nb::class_<DeviceInfo>(m, "DeviceInfo", "What is known of a device before it is opened.")
        .def_ro("index", &DeviceInfo::index, "its place in list_devices()")
        .def_ro("name", &DeviceInfo::name)
        .def_ro("device_type", &DeviceInfo::type, "'cpu', 'integrated', 'discrete', 'virtual' or 'other'")
        .def_ro("driver_name", &DeviceInfo::driver_name)
        .def_ro("driver_info", &DeviceInfo::driver_info)
        .def_ro("driver_version", &DeviceInfo::driver_version, "in the vendor's own encoding")
        .def_ro("vendor_id", &DeviceInfo::vendor_id)
        .def_ro("device_id", &DeviceInfo::device_id)
        .def_ro("api_version", &DeviceInfo::api_version, "major, minor, patch")
        .def_ro("pipeline_cache_uuid", &DeviceInfo::pipeline_cache_uuid, "32 hexadecimal digits; changes with the driver")
        .def_ro("limits", &DeviceInfo::limits, "what the device can do at most (max_...), or needs at least (min_..._alignment), in bytes or counts")
        .def_ro("features", &DeviceInfo::features, "what is offered, and enabled on an opened device")
        .def_ro("max_workgroup_size", &DeviceInfo::max_workgroup_size, "invocations along x, y, z")
        .def_ro("max_workgroup_count", &DeviceInfo::max_workgroup_count, "workgroups along x, y, z")
        .def_ro("timestamp_period", &DeviceInfo::timestamp_period, "nanoseconds per tick")
        .def_ro("heaps", &DeviceInfo::heaps, "(bytes, whether it is the device's own) of each memory heap")
        .def_ro("device_bytes", &DeviceInfo::device_bytes, "bytes of all heaps of the device's own")
        .def_ro("host_bytes", &DeviceInfo::host_bytes, "bytes of all other heaps")
        .def_ro("cooperative_matrix_shapes", &DeviceInfo::matrix_shapes,
                "(M, N, K, type of A, of B, of C, of the result, scope), in the driver's order, without the saturating ones")
        .def("__repr__", [](const DeviceInfo& i) { return "<DeviceInfo " + std::to_string(i.index) + ": " + i.name + ">"; });
}

void bind_device(nb::module_& m) {
    nb::class_<Handle<Device>>(m, "Device", "An opened device. What is made from it keeps it alive, in any order of destruction.")
        .def_prop_ro("info", [](const Handle<Device>& d) { return d->info(); })
        .def_prop_ro("low_priority", [](const Handle<Device>& d) { return d->low_priority(); }, "whether the driver granted it")
        .def_prop_ro("memory_used", [](const Handle<Device>& d) { return d->memory_used(); }, "bytes allocated now")
        .def_prop_ro("memory_peak", [](const Handle<Device>& d) { return d->memory_peak(); }, "most bytes ever allocated")
        .def("buffer", &buffer, "nbytes"_a, "host"_a = false,
             "Memory of the device, or of the host (mapped, cached). Its content is undefined at first.")
        .def("pipeline", &pipeline, "spirv"_a, "bindings"_a, nb::kw_only(), "specialization"_a = nb::tuple(), "push_bytes"_a = 0,
             "subgroup_size"_a = 0, "full_subgroups"_a = false,
             "A compute pipeline with entry point main. bindings[i] is what binding i of set 0 is: 'storage', 'uniform' or\n"
             "'texel_FORMAT'. specialization maps constant ids to 32-bit values; a sequence numbers them from 0.")
        .def("recording", [](const Handle<Device>& d) { return Handle<Recording>{std::make_shared<Recording>(d.shared())}; },
             "A new, empty recording.")
        .def("pipeline_cache", [](const Handle<Device>& d) {
                 const auto data = d->cache_data();
                 return nb::bytes(reinterpret_cast<const char*>(data.data()), data.size());
             }, "The driver's compiled pipelines, to be saved.")
        .def("load_pipeline_cache", [](const Handle<Device>& d, nb::bytes data) {
                 return d->load_cache(reinterpret_cast<const uint8_t*>(data.c_str()), data.size());
             }, "data"_a, "Adds saved pipelines. False, and nothing happens, where they are damaged or of another device or driver.")
        .def("validation_messages", [](const Handle<Device>& d) { return d->instance().messages(); },
             "Warnings and errors of the validation layer so far.")
        .def("clear_validation_messages", [](const Handle<Device>& d) { d->instance().clear_messages(); })
        .def("close", &Handle<Device>::close, "Gives up this handle; the device goes when nothing made from it is left.")
        .def("__repr__", [](const Handle<Device>& d) { return d.object ? "<Device " + d->info().name + ">" : "<Device, closed>"; });
    m.def("open", &open, "index"_a = 0, nb::kw_only(), "low_priority"_a = true, "validation"_a = false, "staging"_a = false,
          "Opens a device with every feature that this runtime knows and the device offers. Low priority is asked for where\n"
          "offered. validation turns on the Khronos layer with its synchronization checks. staging never maps device memory,\n"
          "even where the host shares it, as on a discrete GPU.");
}

void bind_buffer(nb::module_& m) {
    nb::class_<Handle<Buffer>>(m, "Buffer", "Device memory. Reads and writes of a mapped buffer don't wait for work under way.")
        .def_prop_ro("nbytes", [](const Handle<Buffer>& b) { return b->size(); })
        .def_prop_ro("mapped", &mapped, nb::rv_policy::automatic, "the memory itself as uint8, writable, or None; keeps the memory alive")
        .def("write", &write, "data"_a, "offset"_a = 0, nb::sig("def write(self, data: _Readable, offset: int = 0) -> None"),
             "Copies a C-contiguous array or bytes to byte `offset`.")
        .def("read", &read, "nbytes"_a = nb::none(), "offset"_a = 0, "A copy of `nbytes` bytes (all that follow by default).")
        .def("read_into", &read_into, "target"_a, "offset"_a = 0,
             nb::sig("def read_into(self, target: _Writable, offset: int = 0) -> None"), "Fills a writable C-contiguous array.")
        .def("close", &Handle<Buffer>::close, "Gives up this handle; the memory is freed when no recording or view uses it.")
        .def("__repr__", [](const Handle<Buffer>& b) {
            return b.object ? "<Buffer of " + std::to_string(b->size()) + " bytes>" : std::string("<Buffer, closed>");
        });
    nb::class_<Handle<Pipeline>>(m, "Pipeline", "A shader with its specialization, ready to be dispatched.")
        .def_prop_ro("push_bytes", [](const Handle<Pipeline>& p) { return p->push_bytes(); })
        .def_prop_ro("bindings", [](const Handle<Pipeline>& p) { return p->bindings().size(); }, "how many windows a dispatch takes")
        .def("close", &Handle<Pipeline>::close);
}

void bind_recording(nb::module_& m) {
    using R = Handle<Recording>;
    nb::class_<R>(m, "Recording", "Commands recorded once and submitted many times. For one thread at a time.")
        .def("dispatch", &dispatch, "pipeline"_a, "windows"_a, "groups"_a, "push"_a = nb::bytes("", 0),
             "Runs groups = (x, y, z) workgroups; windows[i] = (buffer, offset, bytes) is bound to binding i.")
        .def("barrier", [](const R& r) { r->barrier(); }, "All work recorded so far happens, and is visible, before what follows.")
        .def("copy", [](const R& r, const Handle<Buffer>& src, uint64_t src_offset, const Handle<Buffer>& dst, uint64_t dst_offset,
                        uint64_t nbytes) { r->copy(window(&src, src_offset, nbytes), window(&dst, dst_offset, nbytes)); },
             "src"_a, "src_offset"_a, "dst"_a, "dst_offset"_a, "nbytes"_a)
        .def("fill", [](const R& r, const Handle<Buffer>& buffer, uint64_t offset, uint64_t nbytes, uint32_t value) {
                 r->fill(window(&buffer, offset, nbytes), value);
             }, "buffer"_a, "offset"_a, "nbytes"_a, "value"_a, "Repeats a 32-bit value; offset and size are multiples of 4.")
        .def("timestamp", [](const R& r) { return r->timestamp(); },
             "Notes the time when all work so far has ended; returns its index in timestamps().")
        .def("end", [](const R& r) { r->end(); }, "Closes the recording; a barrier towards later submissions and the host is added.")
        .def("submit", &submit, "repeat"_a = 1, "Starts it, `repeat` times in a row, in one submission.")
        .def("wait", &wait, "timeout_s"_a = nb::none(), "True when the submission has ended, False when the time is up first.")
        .def("run", &run, "repeat"_a = 1, "submit() and wait().")
        .def_prop_ro("pending", [](const R& r) { return r->pending(); }, "whether a submission was not waited for yet")
        .def("timestamps", [](const R& r) { return r->seconds(); }, "Seconds since the first timestamp, of the last repetition.")
        .def("close", &R::close, "Waits for work under way and frees the commands.");
}

} // namespace
} // namespace tlite

NB_MODULE(_kompute, m) {
    nb::set_leak_warnings(false); // a device in a global variable at exit is no leak worth a message
    tlite::register_errors();
    tlite::bind_info(m);
    m.def("list_devices", &tlite::list_devices, "Every device of every installed driver. DeviceError without loader, driver or device.");
    tlite::bind_buffer(m);
    tlite::bind_recording(m);
    tlite::bind_device(m);
}
