#version 450
// Used by the tests of the binding only: one link of a chain of dependent dispatches,
//   y[i] = x[i] * SCALE + offset
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = 1) const uint SCALE = 1;

layout(set = 0, binding = 0, std430) readonly buffer X { uint x[]; };
layout(set = 0, binding = 1, std430) writeonly buffer Y { uint y[]; };
layout(push_constant) uniform Push { uint count; uint offset; } push;

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i < push.count) y[i] = x[i] * SCALE + push.offset;
}
