// The one exception of the binding; module.cpp turns it into tlite_vk.errors.DeviceError.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace tlite {

struct DeviceError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Throws a DeviceError whose message is the arguments, written one after the other.
template <typename... Parts> [[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw DeviceError(text.str());
}

} // namespace tlite
