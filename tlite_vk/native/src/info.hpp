// What Python may know of a device before opening it.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "features.hpp"
#include "instance.hpp"

namespace tlite {

/// M, N, K, then the component types of A, B, C and the result, then the scope.
using MatrixShape =
    std::tuple<uint32_t, uint32_t, uint32_t, std::string, std::string, std::string, std::string, std::string>;

struct DeviceInfo {
    int64_t index = 0;
    std::string name, type, driver_name, driver_info;
    uint32_t driver_version = 0, vendor_id = 0, device_id = 0;
    std::tuple<int, int, int> api_version;
    std::string pipeline_cache_uuid; ///< 32 hexadecimal digits
    std::map<std::string, uint64_t> limits;
    std::map<std::string, bool> features;
    std::tuple<uint64_t, uint64_t, uint64_t> max_workgroup_size, max_workgroup_count;
    double timestamp_period = 0;                  ///< nanoseconds per tick
    std::vector<std::pair<uint64_t, bool>> heaps; ///< bytes, and whether the heap is the device's own
    uint64_t device_bytes = 0, host_bytes = 0;
    std::vector<MatrixShape> matrix_shapes;
};

DeviceInfo describe(const Instance& instance, vk::PhysicalDevice device, int64_t index, const Features& features);

/// The first queue family that computes, one without graphics preferred; throws DeviceError where there is none.
uint32_t compute_family(vk::PhysicalDevice device);

} // namespace tlite
