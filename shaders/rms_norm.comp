#version 450
#extension GL_GOOGLE_include_directive : require
// RMS normalization of each row: y = x / sqrt(mean(x^2) + epsilon) * scale. One workgroup per row [T, K], K even.
// Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
layout(local_size_x_id = 0) in;
#include "source.glsl"
layout(constant_id = 1) const int Y_HALF = 0;

layout(std430, binding = 0) readonly buffer X { vec2 x[]; };
layout(std430, binding = 1) readonly buffer Scale { vec2 scale[]; };
layout(std430, binding = 2) writeonly buffer Y { uint y[]; };
layout(push_constant) uniform Push { uint columns; float epsilon; } push;

#include "reduce.glsl"

void main() {
    uint pairs = push.columns / 2u, row = gl_WorkGroupID.x * pairs;
    float squares = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < pairs; i += gl_WorkGroupSize.x) squares += dot(x[row + i], x[row + i]);
    float factor = inversesqrt(workgroupSum(squares) / float(push.columns) + push.epsilon);
    for (uint i = gl_LocalInvocationID.x; i < pairs; i += gl_WorkGroupSize.x) {
        vec2 v = x[row + i] * factor * scale[i];
        if (Y_HALF != 0) {
            y[row + i] = packHalves(v.x, v.y);
        } else {
            y[2u * (row + i)] = floatBitsToUint(v.x);
            y[2u * (row + i) + 1u] = floatBitsToUint(v.y);
        }
    }
}
