// A poorer device than the one at hand: what the runtime is to believe of it.
#pragma once
#include "info.hpp"

namespace tlite {

/// Names are those of DeviceInfo::limits and ::features. What is left out stays as the device reports it.
struct Profile {
    std::map<std::string, uint64_t> limits;
    std::map<std::string, bool> features;
    std::vector<uint64_t> max_workgroup_size, max_workgroup_count; ///< along x, y, z; empty: as it is
    bool integrated = false; ///< a CPU driver passes for an integrated GPU, so that a GPU's kernels are chosen
};

/// The device as the poorer of itself and the profile. Throws DeviceError for a name that means nothing or cannot be
/// lowered: subgroup sizes are what they are.
DeviceInfo lowered(DeviceInfo info, const Profile& profile);

} // namespace tlite
