#version 450
// Used by the tests of the binding only: reverses the numbers of its invocations through shared memory of SLOTS vectors.
layout(local_size_x = 16) in;
layout(constant_id = 0) const uint SLOTS = 16;

layout(set = 0, binding = 0, std430) writeonly buffer Y { uint y[]; };
shared uvec4 slots[SLOTS];

void main() {
    uint i = gl_LocalInvocationIndex;
    slots[i] = uvec4(i);
    barrier();
    y[i] = slots[15 - i].x;
}
