// Which feature of a device each capability of a SPIR-V module takes.
#pragma once
#include <set>

#include "info.hpp"

namespace tlite {

/// Throws DeviceError naming the feature where a module declares a capability that the device does not offer: drivers
/// need not notice, and compute something else.
void check_capabilities(const std::set<uint32_t>& declared, const DeviceInfo& info);

} // namespace tlite
