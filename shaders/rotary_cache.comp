#version 450
#extension GL_GOOGLE_include_directive : require
// Rotates q and k of this step's rows by their positions and writes k and v into their slots of the ring: position p
// lives in slot p mod C. One invocation per pair of head elements; grid: ceil(pairs / local size x) x
// ceil((H + 2 KV) / local size y) x T.
// Rows past `count` are padding: their q is written (nobody reads it), the ring is left alone.
layout(local_size_x_id = 0, local_size_y_id = 5) in;
#include "source.glsl"
layout(constant_id = 1) const int HEAD_DIM = 64;
layout(constant_id = 2) const int ROTARY = 64;       // rotated leading elements of a head; 0 for none
layout(constant_id = 3) const int INTERLEAVED = 0;
layout(constant_id = 4) const int CACHE_HALF = 1;

layout(std430, binding = 0) readonly buffer Q { float qIn[]; };
layout(std430, binding = 1) readonly buffer K { float kIn[]; };
layout(std430, binding = 2) readonly buffer V { float vIn[]; };
layout(std430, binding = 3) readonly buffer Table { vec2 rotaryTable[]; };  // (cos, sin) [positions][ROTARY / 2]
layout(std430, binding = 4) writeonly buffer QOut { vec2 qOut[]; };  // [T][H * D] as pairs
layout(std430, binding = 5) writeonly buffer KCache { uint kCache[]; };  // [C][KV * D]
layout(std430, binding = 6) writeonly buffer VCache { uint vCache[]; };
#define STEP_BINDING 7
#include "step.glsl"
layout(push_constant) uniform Push {
    uint heads, kvHeads, capacity, positions;
    uint qStride, kStride, vStride;   // columns of the sources
    uint qOffset, kOffset, vOffset;   // first column of the head group in each
} push;

#include "rotary.glsl"

float element(uint kind, uint at) { return kind == 0u ? qIn[at] : kind == 1u ? kIn[at] : vIn[at]; }

// Element d of the head that starts at `at`, rotated for position p.
float rotated(uint kind, uint at, uint d, uint p) {
    if (kind == 2u || d >= uint(ROTARY)) return element(kind, at + d);
    uint i = INTERLEAVED != 0 ? d / 2u : d % (uint(ROTARY) / 2u);
    uvec2 pair = rotaryPair(i);
    vec2 angle = rotaryTable[min(p, push.positions - 1u) * (uint(ROTARY) / 2u) + i];
    vec2 v = rotate(vec2(element(kind, at + pair.x), element(kind, at + pair.y)), angle);
    return d == pair.x ? v.x : v.y;
}

void main() {
    uint pair = gl_GlobalInvocationID.x, head = gl_GlobalInvocationID.y, t = gl_WorkGroupID.z;
    if (pair >= uint(HEAD_DIM) / 2u || head >= push.heads + 2u * push.kvHeads) return;
    uint kind = head < push.heads ? 0u : head < push.heads + push.kvHeads ? 1u : 2u;
    uint local = kind == 0u ? head : kind == 1u ? head - push.heads : head - push.heads - push.kvHeads;
    uint at = local * uint(HEAD_DIM) + (kind == 0u ? t * push.qStride + push.qOffset
                                      : kind == 1u ? t * push.kStride + push.kOffset : t * push.vStride + push.vOffset);
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
