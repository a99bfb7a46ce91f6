// The extension module tlite_vk._kompute: its errors and its parts.
#include "python.hpp"

namespace tlite {
namespace {

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
    static PyObject* const type =
        nb::object(nb::module_::import_("tlite_vk.errors").attr("DeviceError")).release().ptr();
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

} // namespace
} // namespace tlite

NB_MODULE(_kompute, m) {
    nanobind::set_leak_warnings(false); // a device in a global variable at exit is no leak worth a message
    tlite::register_errors();
    tlite::bind_buffers(m);
    tlite::bind_recordings(m);
    tlite::bind_devices(m);
}
