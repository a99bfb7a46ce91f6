#version 450
#extension GL_GOOGLE_include_directive : require
// What a graph whose outputs are longer caches does, for tlite-vk ablate: the rows of the past into a new buffer, to which
// the step's own rows are added. as many are copied as are cached, at most `capacity`.
// Grid: any number of workgroups; each invocation takes 16 bytes of every so many.
layout(local_size_x_id = 0) in;
#include "source.glsl"
SOURCE4(0, past)
layout(std430, binding = 1) writeonly buffer Present { uvec4 present[]; };
#define STEP_BINDING 2
#include "step.glsl"
layout(push_constant) uniform Push {
    uint words;     // uvec4 of a row
    uint capacity;  // rows
} push;

void main() {
    uint count = min(stepParams.position, push.capacity) * push.words;
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < count; i += stride) present[i] = past(i);
}
