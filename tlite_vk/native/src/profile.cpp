#include "profile.hpp"

#include <algorithm>

#include "errors.hpp"

namespace tlite {
namespace {

/// Whether a larger number asks more of a program: offsets have to be multiples of it.
bool is_alignment(const std::string& name) {
    return name == "non_coherent_atom" || (name.rfind("min_", 0) == 0 && name.find("_alignment") != std::string::npos);
}

bool is_fixed(const std::string& name) {
    return name == "subgroup_size" || name == "min_subgroup_size" || name == "max_subgroup_size";
}

template <typename Value> std::string names(const std::map<std::string, Value>& known) {
    std::string text;
    for (const auto& [name, _] : known)
        if (!is_fixed(name)) text += (text.empty() ? "" : ", ") + name;
    return text;
}

void lower_limit(DeviceInfo& info, const std::string& name, uint64_t value) {
    const auto found = info.limits.find(name);
    if (found == info.limits.end() || is_fixed(name))
        fail("there is no limit ", name, " to lower; there are ", names(info.limits),
             ", max_workgroup_size and max_workgroup_count");
    if (!is_alignment(name)) {
        found->second = std::min(found->second, value);
        return;
    }
    if (value == 0 || (value & (value - 1))) fail("the limit ", name, " must be a power of two, not ", value);
    found->second = std::max(found->second, value);
}

void lower_axes(std::tuple<uint64_t, uint64_t, uint64_t>& own, const std::vector<uint64_t>& given, const char* name) {
    if (given.empty()) return;
    if (given.size() != 3) fail("the limit ", name, " takes three numbers, along x, y and z, not ", given.size());
    auto& [x, y, z] = own;
    x = std::min(x, given[0]), y = std::min(y, given[1]), z = std::min(z, given[2]);
}

} // namespace

DeviceInfo lowered(DeviceInfo info, const Profile& profile) {
    for (const auto& [name, value] : profile.limits) lower_limit(info, name, value);
    for (const auto& [name, value] : profile.features) {
        const auto found = info.features.find(name);
        if (found == info.features.end())
            fail("there is no feature ", name, " to leave out; there are ", names(info.features));
        found->second = found->second && value;
    }
    lower_axes(info.max_workgroup_size, profile.max_workgroup_size, "max_workgroup_size");
    lower_axes(info.max_workgroup_count, profile.max_workgroup_count, "max_workgroup_count");
    if (!info.features.at("cooperative_matrix")) info.matrix_shapes.clear();
    if (profile.integrated && info.type == "cpu") info.type = "integrated";
    return info;
}

} // namespace tlite
