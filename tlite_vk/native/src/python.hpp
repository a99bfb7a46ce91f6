// What the parts of the Python module share: handles that can be closed, and where each part registers itself.
#pragma once
#include <nanobind/nanobind.h>
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

namespace tlite {

namespace nb = nanobind;
using namespace nb::literals;

/// What Python holds: shared ownership that close() gives up early.
template <typename T> struct Handle {
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
template <> inline const char* const Handle<Device>::name = "device";
template <> inline const char* const Handle<Buffer>::name = "buffer";
template <> inline const char* const Handle<Pipeline>::name = "pipeline";
template <> inline const char* const Handle<Recording>::name = "recording";

void bind_devices(nb::module_& m);
void bind_buffers(nb::module_& m);
void bind_recordings(nb::module_& m);

} // namespace tlite
