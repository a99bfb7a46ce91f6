// The Python classes Buffer and Pipeline, and how arrays get in and out.
#include <nanobind/ndarray.h>

#include "python.hpp"

namespace tlite {
namespace {

using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>, nb::c_contig>;

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
    buffer->device().check_alive();
    auto* kept = new std::shared_ptr<Buffer>(buffer.shared());
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::shared_ptr<Buffer>*>(p); });
    if (!(*kept)->mapped()) return std::nullopt;
    return Bytes((*kept)->mapped(), {(*kept)->size()}, owner);
}

} // namespace

void bind_buffers(nb::module_& m) {
    nb::class_<Handle<Buffer>>(m, "Buffer",
                               "Device memory. Reads and writes of a mapped buffer don't wait for work under way.")
        .def_prop_ro("nbytes", [](const Handle<Buffer>& b) { return b->size(); })
        .def_prop_ro("mapped", &mapped, nb::rv_policy::automatic,
                     "the memory itself as uint8, writable, or None; keeps the memory alive")
        .def("write", &write, "data"_a, "offset"_a = 0,
             nb::sig("def write(self, data: _Readable, offset: int = 0) -> None"),
             "Copies a C-contiguous array or bytes to byte `offset`.")
        .def("read", &read, "nbytes"_a = nb::none(), "offset"_a = 0,
             "A copy of `nbytes` bytes (all that follow by default).")
        .def("read_into", &read_into, "target"_a, "offset"_a = 0,
             nb::sig("def read_into(self, target: _Writable, offset: int = 0) -> None"),
             "Fills a writable C-contiguous array.")
        .def("close", &Handle<Buffer>::close,
             "Gives up this handle; the memory is freed when no recording or view uses it.")
        .def("__repr__", [](const Handle<Buffer>& b) {
            return b.object ? "<Buffer of " + std::to_string(b->size()) + " bytes>" : std::string("<Buffer, closed>");
        });
    nb::class_<Handle<Pipeline>>(m, "Pipeline", "A shader with its specialization, ready to be dispatched.")
        .def_prop_ro("push_bytes", [](const Handle<Pipeline>& p) { return p->push_bytes(); })
        .def_prop_ro(
            "bindings", [](const Handle<Pipeline>& p) { return p->bindings().size(); },
            "how many windows a dispatch takes")
        .def("close", &Handle<Pipeline>::close);
}

} // namespace tlite
