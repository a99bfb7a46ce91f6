#version 450
#extension GL_GOOGLE_include_directive : require
// Normalizes (NORMED) and rotates q and k of this step's rows by their positions, and writes k and v into their slots of
// the ring: position p lives in slot p mod C. One invocation per pair of head elements; grid: ceil(pairs / local size x) x
// ceil((H + 2 KV) / local size y) x T.
// Rows past `count` are padding: their q is written (nobody reads it), the ring is left alone.
layout(local_size_x_id = 0, local_size_y_id = 5) in;
#include "source.glsl"
layout(constant_id = 1) const int HEAD_DIM = 64;
layout(constant_id = 2) const int ROTARY = 64;       // rotated leading elements of a head; 0 for none
layout(constant_id = 3) const int INTERLEAVED = 0;
layout(constant_id = 4) const int CACHE_HALF = 1;
layout(constant_id = 6) const int NORMED = 0;        // an RMS norm over each head of q and k comes first

layout(std430, binding = 0) readonly buffer Q { float qIn[]; };
layout(std430, binding = 1) readonly buffer K { float kIn[]; };
layout(std430, binding = 2) readonly buffer V { float vIn[]; };
layout(std430, binding = 3) readonly buffer Table { vec2 rotaryTable[]; };  // see rotary.glsl
layout(std430, binding = 4) writeonly buffer QOut { vec2 qOut[]; };  // [T][H * D] as pairs
layout(std430, binding = 5) writeonly buffer KCache { uint kCache[]; };  // [C][KV * D]
layout(std430, binding = 6) writeonly buffer VCache { uint vCache[]; };
#define STEP_BINDING 7
#include "step.glsl"
layout(push_constant) uniform Push {
    uint heads, kvHeads, capacity, positions;
    uint qStride, kStride, vStride;   // columns of the sources
    uint qOffset, kOffset, vOffset;   // first column of the head group in each
    float normEpsilon;
} push;

#include "rotary.glsl"

shared float squares[256];  // of at most 256 invocations
float inverseRms = 1.0;

// 1 / the root mean square of the head that starts at `at`, by the invocations side by side in x. All invocations of the
// workgroup come here.
void measure(bool needed, uint kind, uint at) {
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x, first = gl_LocalInvocationID.y * lanes;
    float sum = 0.0;
    for (uint d = lane; needed && d < uint(HEAD_DIM); d += lanes) {
        float x = kind == 0u ? qIn[at + d] : kIn[at + d];
        sum = fma(x, x, sum);
    }
    squares[first + lane] = sum;
    barrier();
    sum = 0.0;
    for (uint l = 0u; l < lanes; ++l) sum += squares[first + l];
    inverseRms = inversesqrt(sum / float(HEAD_DIM) + push.normEpsilon);
}

float element(uint kind, uint at, uint d) {
    float x = kind == 0u ? qIn[at + d] : kind == 1u ? kIn[at + d] : vIn[at + d];
    if (NORMED == 0 || kind == 2u) return x;
    vec2 scale = normScale(d, push.positions);
    return x * inverseRms * (kind == 0u ? scale.x : scale.y);
}

// Element d of the head that starts at `at`, rotated for position p.
float rotated(uint kind, uint at, uint d, uint p) {
    if (kind == 2u || d >= uint(ROTARY)) return element(kind, at, d);
    uint i = INTERLEAVED != 0 ? d / 2u : d % (uint(ROTARY) / 2u);
    uvec2 pair = rotaryPair(i);
    vec2 angle = rotaryTable[min(p, push.positions - 1u) * (uint(ROTARY) / 2u) + i];
    vec2 v = rotate(vec2(element(kind, at, pair.x), element(kind, at, pair.y)), angle);
    return d == pair.x ? v.x : v.y;
}

void main() {
    uint pair = gl_GlobalInvocationID.x, head = gl_GlobalInvocationID.y, t = gl_WorkGroupID.z;
    bool inside = head < push.heads + 2u * push.kvHeads;
    uint kind = head < push.heads ? 0u : head < push.heads + push.kvHeads ? 1u : 2u;
    uint local = kind == 0u ? head : kind == 1u ? head - push.heads : head - push.heads - push.kvHeads;
    uint at = local * uint(HEAD_DIM) + (kind == 0u ? t * push.qStride + push.qOffset
                                      : kind == 1u ? t * push.kStride + push.kOffset : t * push.vStride + push.vOffset);
    if (NORMED != 0) measure(inside && kind < 2u, kind, at);
    if (!inside || pair >= uint(HEAD_DIM) / 2u) return;
    uint p = stepParams.position + t;
    vec2 v = vec2(rotated(kind, at, 2u * pair, p), rotated(kind, at, 2u * pair + 1u, p));
    if (kind == 0u) {
        qOut[(t * push.heads + local) * uint(HEAD_DIM) / 2u + pair] = v;
        return;
    }
    if (t >= stepParams.count) return;
    uint slot = ((p % push.capacity) * push.kvHeads + local) * uint(HEAD_DIM) / 2u + pair;
    if (CACHE_HALF != 0) {
        uint packed = packHalves(v.x, v.y);
        if (kind == 1u) kCache[slot] = packed; else vCache[slot] = packed;
    } else {
        uvec2 bits = floatBitsToUint(v);
        if (kind == 1u) { kCache[2u * slot] = bits.x; kCache[2u * slot + 1u] = bits.y; }
        else { vCache[2u * slot] = bits.x; vCache[2u * slot + 1u] = bits.y; }
    }
}
