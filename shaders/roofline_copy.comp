#version 450
// Measures the copy bandwidth of a device: each invocation moves 16 bytes, neighbours move neighbouring ones.
//   y[i] = x[i]    i in [0, invocations)
// TEXEL reads through a texel buffer, as the kernels for CPU drivers do.
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

#ifdef TEXEL
layout(set = 0, binding = 0) uniform usamplerBuffer x;
#define LOAD(i) texelFetch(x, int(i))
#else
layout(set = 0, binding = 0, std430) readonly buffer X { uvec4 x[]; };
#define LOAD(i) x[i]
#endif
layout(set = 0, binding = 1, std430) writeonly buffer Y { uvec4 y[]; };

void main() {
    uint i = gl_GlobalInvocationID.x;
    y[i] = LOAD(i);
}
