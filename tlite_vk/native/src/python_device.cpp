// The Python classes DeviceInfo and Device.
#include "python.hpp"

namespace tlite {
namespace {

using Specialization = std::variant<std::map<uint32_t, int64_t>, std::vector<int64_t>>;

std::vector<DeviceInfo> list_devices() {
    Instance instance(false);
    std::vector<DeviceInfo> found;
    for (auto device : instance.devices()) {
        const Features features(device, instance.api_version());
        found.push_back(describe(instance, device, static_cast<int64_t>(found.size()), features));
    }
    return found;
}

Profile profile(std::map<std::string, uint64_t> limits, std::map<std::string, bool> features,
                std::vector<uint64_t> max_workgroup_size, std::vector<uint64_t> max_workgroup_count, bool integrated) {
    return {std::move(limits), std::move(features), std::move(max_workgroup_size), std::move(max_workgroup_count),
            integrated};
}

Handle<Device> open(int64_t index, bool low_priority, bool validation, std::string validation_log, bool staging,
                    const Profile* profile, uint64_t memory_limit) {
    const DeviceOptions options{low_priority, validation,   std::move(validation_log), staging,
                                profile ? *profile : Profile{}, memory_limit};
    nb::gil_scoped_release release;
    return {std::make_shared<Device>(index, options)};
}

std::optional<std::string> asked_for(const std::vector<std::string>& extensions, bool low_priority) {
    const char* name = priority_extension({extensions.begin(), extensions.end()}, low_priority);
    return name ? std::optional<std::string>(name) : std::nullopt;
}

Handle<Buffer> buffer(const Handle<Device>& device, uint64_t nbytes, bool host) {
    return {std::make_shared<Buffer>(device.shared(), nbytes, host ? Placement::host : Placement::device)};
}

std::vector<std::pair<uint32_t, uint32_t>> constants(const Specialization& given) {
    std::vector<std::pair<uint32_t, uint32_t>> result;
    auto add = [&](uint32_t id, int64_t value) {
        if (value < INT32_MIN || value > UINT32_MAX)
            fail("specialization constant ", id, " = ", value, " does not fit 32 bits");
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
                          const Specialization& specialization, uint32_t push_bytes, uint32_t subgroup_size,
                          bool full_subgroups) {
    if (spirv.size() % 4) fail("a SPIR-V module is a whole number of 4-byte words, not ", spirv.size(), " bytes");
    std::vector<uint32_t> words(spirv.size() / 4);
    std::memcpy(words.data(), spirv.c_str(), spirv.size());
    const PipelineOptions options{constants(specialization), push_bytes, subgroup_size, full_subgroups};
    auto shared = device.shared();
    nb::gil_scoped_release release;
    return {std::make_shared<Pipeline>(std::move(shared), words, bindings, options)};
}

void bind_info(nb::module_& m) {
    nb::class_<Profile>(m, "Profile", "A poorer device than the one at hand; see profile().");
    m.def("profile", &profile, nb::kw_only(), "limits"_a = nb::dict(), "features"_a = nb::dict(),
          "max_workgroup_size"_a = nb::tuple(), "max_workgroup_count"_a = nb::tuple(), "integrated"_a = false,
          "What to believe of a device, by the names of DeviceInfo, where that is less than it has. integrated: a CPU "
          "driver\n"
          "passes for an integrated GPU.");
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
        .def_ro("pipeline_cache_uuid", &DeviceInfo::pipeline_cache_uuid,
                "32 hexadecimal digits; changes with the driver")
        .def_ro("limits", &DeviceInfo::limits,
                "what the device can do at most (max_...), or needs at least (min_..._alignment), in bytes or counts")
        .def_ro("features", &DeviceInfo::features, "what is offered, and enabled on an opened device")
        .def_ro("max_workgroup_size", &DeviceInfo::max_workgroup_size, "invocations along x, y, z")
        .def_ro("max_workgroup_count", &DeviceInfo::max_workgroup_count, "workgroups along x, y, z")
        .def_ro("timestamp_period", &DeviceInfo::timestamp_period, "nanoseconds per tick")
        .def_ro("heaps", &DeviceInfo::heaps, "(bytes, whether it is the device's own) of each memory heap")
        .def_ro("device_bytes", &DeviceInfo::device_bytes, "bytes of all heaps of the device's own")
        .def_ro("host_bytes", &DeviceInfo::host_bytes, "bytes of all other heaps")
        .def_ro("cooperative_matrix_shapes", &DeviceInfo::matrix_shapes,
                "(M, N, K, type of A, of B, of C, of the result, scope), in the driver's order, without the saturating "
                "ones")
        .def("lowered", &lowered, "profile"_a, "The poorer of this device and a profile.")
        .def("__repr__",
             [](const DeviceInfo& i) { return "<DeviceInfo " + std::to_string(i.index) + ": " + i.name + ">"; });
}

void bind_device(nb::module_& m) {
    nb::class_<Handle<Device>>(m, "Device",
                               "An opened device. What is made from it keeps it alive, in any order of destruction.")
        .def_prop_ro("info", [](const Handle<Device>& d) { return d->info(); })
        .def_prop_ro(
            "low_priority", [](const Handle<Device>& d) { return d->low_priority(); }, "whether the driver granted it")
        .def_prop_ro(
            "memory_used", [](const Handle<Device>& d) { return d->memory_used(); }, "bytes allocated now")
        .def_prop_ro(
            "memory_peak", [](const Handle<Device>& d) { return d->memory_peak(); }, "most bytes ever allocated")
        .def_prop_rw(
            "memory_limit", [](const Handle<Device>& d) { return d->memory_limit(); },
            [](const Handle<Device>& d, uint64_t bytes) { d->limit_memory(bytes); },
            "most bytes of all buffers together; 0: what the heaps hold")
        .def_prop_ro(
            "lost", [](const Handle<Device>& d) { return d->lost(); },
            "whether the driver gave it up; all that is left to do is to close it and open it again")
        .def(
            "fail_after",
            [](const Handle<Device>& d, uint64_t submissions, bool waiting) { d->fail_after(submissions, waiting); },
            "submissions"_a, "waiting"_a = false,
            "For tests: the device is lost at the submission after so many more, or (waiting) when that has ended.")
        .def("buffer", &buffer, "nbytes"_a, "host"_a = false,
             "Memory of the device, or of the host (mapped, cached). Its content is undefined at first.")
        .def("pipeline", &pipeline, "spirv"_a, "bindings"_a, nb::kw_only(), "specialization"_a = nb::tuple(),
             "push_bytes"_a = 0, "subgroup_size"_a = 0, "full_subgroups"_a = false,
             "A compute pipeline with entry point main. bindings[i] is what binding i of set 0 is: 'storage', "
             "'uniform' or\n"
             "'texel_FORMAT'. specialization maps constant ids to 32-bit values; a sequence numbers them from 0.")
        .def(
            "recording",
            [](const Handle<Device>& d) { return Handle<Recording>{std::make_shared<Recording>(d.shared())}; },
            "A new, empty recording.")
        .def(
            "pipeline_cache",
            [](const Handle<Device>& d) {
                const auto data = d->cache_data();
                return nb::bytes(reinterpret_cast<const char*>(data.data()), data.size());
            },
            "The driver's compiled pipelines, to be saved.")
        .def(
            "load_pipeline_cache",
            [](const Handle<Device>& d, nb::bytes data) {
                return d->load_cache(reinterpret_cast<const uint8_t*>(data.c_str()), data.size());
            },
            "data"_a,
            "Adds saved pipelines. False, and nothing happens, where they are damaged or of another device or driver.")
        .def(
            "validation_messages", [](const Handle<Device>& d) { return d->instance().messages(); },
            "Warnings and errors of the validation layer so far.")
        .def("clear_validation_messages", [](const Handle<Device>& d) { d->instance().clear_messages(); })
        .def("close", &Handle<Device>::close,
             "Gives up this handle; the device goes when nothing made from it is left.")
        .def("__repr__",
             [](const Handle<Device>& d) { return d.object ? "<Device " + d->info().name + ">" : "<Device, closed>"; });
    m.def("list_devices", &list_devices,
          "Every device of every installed driver. DeviceError without loader, driver or device.");
    m.def("open", &open, "index"_a = 0, nb::kw_only(), "low_priority"_a = true, "validation"_a = false,
          "validation_log"_a = "", "staging"_a = false, "profile"_a = nb::none(), "memory_limit"_a = 0,
          "Opens a device with every feature that this runtime knows and the device offers. Low priority is asked for "
          "where\n"
          "offered. validation turns on the Khronos layer with its synchronization checks, and appends its messages to "
          "the\n"
          "file validation_log, if it names one. staging never maps device memory, even where the host shares it, as on a\n"
          "discrete GPU. profile lowers what the device offers, and is held to:\n"
          "what asks for more is refused. memory_limit: most bytes of all buffers together; 0: what the heaps hold.");
    m.def("priority_extension", &asked_for, "extensions"_a, "low_priority"_a = true,
          "Through which of a device's extensions open() asks for a low priority; None: it does not ask.");
}

} // namespace

void bind_devices(nb::module_& m) {
    bind_info(m);
    bind_device(m);
}

} // namespace tlite
