#version 450
#extension GL_GOOGLE_include_directive : require
// The last valid row of x [T, K] as y [1, K].
layout(local_size_x_id = 0) in;
layout(std430, binding = 0) readonly buffer X { float x[]; };
layout(std430, binding = 1) writeonly buffer Y { float y[]; };
#define STEP_BINDING 2
#include "step.glsl"
layout(push_constant) uniform Push { uint columns; } push;

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i < push.columns) y[i] = x[(max(stepParams.count, 1u) - 1u) * push.columns + i];
}
