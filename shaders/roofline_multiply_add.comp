#version 450
// Measures the fp32 multiply-add rate of a device, in registers only: 96 multiply-adds per round and invocation.
// Twelve independent chains: enough to hide the latency of one, few enough for sixteen SIMD registers.
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(set = 0, binding = 0, std430) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push { uint rounds; float factor; float term; } push;

#define STEP a = a * factor + term; b = b * factor + term; c = c * factor + term;

void main() {
    vec4 a = vec4(0, 1, 2, 3) + float(gl_LocalInvocationID.x), b = a + 4.0, c = a + 8.0;
    vec4 factor = vec4(push.factor), term = vec4(push.term);
    for (uint i = 0; i < push.rounds; ++i) {
        STEP STEP STEP STEP STEP STEP STEP STEP
    }
    vec4 sum = a + b + c; // the result must be used, or the compiler drops the loop
    y[gl_GlobalInvocationID.x] = sum.x + sum.y + sum.z + sum.w;
}
