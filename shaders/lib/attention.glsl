// What the attention shaders share: the ring, the mask, and (with FUSED) this step's own key and value.
// Position p lives in slot p mod C; a query at position q sees keys with q - W < k <= q, judged by position, never by slot.
// With FUSED there is one query row; its key and value come straight from the projection's output, are rotated here and
// written to their slot by the first workgroup of each KV head. Without it, q is rotated already and the ring is written.
#include "source.glsl"
layout(constant_id = 1) const int HEAD_DIM = 64;     // a multiple of 8
layout(constant_id = 2) const int HEADS = 1;         // query heads per workgroup, all of one KV head
layout(constant_id = 3) const int ROTARY = 64;       // rotated leading elements (FUSED); 0 for none
layout(constant_id = 4) const int INTERLEAVED = 0;
layout(constant_id = 5) const int CACHE_HALF = 1;
layout(constant_id = 6) const int Y_HALF = 0;
layout(constant_id = 7) const int SOFTCAP = 0;
layout(constant_id = 20) const int NORMED = 0;       // an RMS norm over each head of q and k comes first (FUSED)

#if defined(WIDE_ROWS) && !defined(FUSED)
layout(std430, binding = 0) readonly buffer Q { vec4 qs[]; };
#else
layout(std430, binding = 0) readonly buffer Q { float qs[]; };
#endif
#ifdef WIDE_ROWS
layout(std430, binding = 1) writeonly buffer Y { uvec4 y[]; };
#else
layout(std430, binding = 1) writeonly buffer Y { uint y[]; };
#endif
#define STEP_BINDING 2
#include "step.glsl"
#ifdef FUSED
layout(std430, binding = 5) readonly buffer KNew { float kNew[]; };
layout(std430, binding = 6) readonly buffer VNew { float vNew[]; };
layout(std430, binding = 7) readonly buffer Table { vec2 rotaryTable[]; };
#include "rotary.glsl"
#endif
#if defined(FUSED) && !defined(TEXEL)
layout(std430, binding = 3) buffer KCache { uvec4 kCache[]; };
layout(std430, binding = 4) buffer VCache { uvec4 vCache[]; };
uvec4 kWords(uint i) { return kCache[i]; }
uvec4 vWords(uint i) { return vCache[i]; }
#define K_CACHE_OUT kCache
#define V_CACHE_OUT vCache
#else
SOURCE4(3, kWords)
SOURCE4(4, vWords)
#ifdef FUSED
layout(std430, binding = 8) writeonly buffer KCacheOut { uvec4 kCacheOut[]; };
layout(std430, binding = 9) writeonly buffer VCacheOut { uvec4 vCacheOut[]; };
#define K_CACHE_OUT kCacheOut
#define V_CACHE_OUT vCacheOut
#endif
#endif

layout(push_constant) uniform Push {
    uint heads, kvHeads, capacity, window;   // window 0: no limit
    uint tokens, positions;
    uint qStride, qOffset, kOffset, vOffset; // columns of the q source; first columns of q, k, v
    float scale, softcap, normEpsilon;
} push;

const float NEVER = -1.0e30;  // a score no real one reaches, finite so that differences stay finite

// First position that a query at `position` sees.
uint firstKey(uint position) {
    return push.window == 0u || position < push.window ? 0u : position - push.window + 1u;
}

uint eightOf(uint position, uint kvHead) {
    return ((position % push.capacity) * push.kvHeads + kvHead) * uint(HEAD_DIM / 8);
}

void unpackEight(uvec4 words, out float v[8]) {
    [[unroll]] for (int i = 0; i < 4; ++i) {
        vec2 pair = unpackHalf2x16(words[i]);
        v[2 * i] = pair.x;
        v[2 * i + 1] = pair.y;
    }
}

void unpackFloats(uvec4 low, uvec4 high, out float v[8]) {
    [[unroll]] for (int i = 0; i < 4; ++i) {
        v[i] = uintBitsToFloat(low[i]);
        v[4 + i] = uintBitsToFloat(high[i]);
    }
}

void loadKeyEight(uint at, out float v[8]) {
    if (CACHE_HALF != 0) unpackEight(kWords(at), v);
    else unpackFloats(kWords(2u * at), kWords(2u * at + 1u), v);
}

void loadValueEight(uint at, out float v[8]) {
    if (CACHE_HALF != 0) unpackEight(vWords(at), v);
    else unpackFloats(vWords(2u * at), vWords(2u * at + 1u), v);
}

float capped(float score) { return SOFTCAP != 0 ? push.softcap * tanh(score / push.softcap) : score; }

#ifdef FUSED
const uint PARTS = 16u;  // sums of squares that a head is cut into
shared float squares[(HEADS + 1) * PARTS];
shared float inverseRms[HEADS + 1];  // of the workgroup's query heads, then of its key head

float rawElement(uint which, uint firstHead, uint kvHead, uint d) {
    return which < uint(HEADS) ? qs[push.qOffset + (firstHead + which) * uint(HEAD_DIM) + d]
                               : kNew[push.kOffset + kvHead * uint(HEAD_DIM) + d];
}

// 1 / the root mean square of each head of the workgroup; before queryElement and takeNewRow.
void measureHeads(uint firstHead, uint kvHead) {
    if (NORMED == 0) return;
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    for (uint i = lane; i < uint(HEADS + 1) * PARTS; i += lanes) {
        float sum = 0.0;
        for (uint d = i % PARTS; d < uint(HEAD_DIM); d += PARTS) {
            float x = rawElement(i / PARTS, firstHead, kvHead, d);
            sum = fma(x, x, sum);
        }
        squares[i] = sum;
    }
    barrier();
    for (uint h = lane; h < uint(HEADS + 1); h += lanes) {
        float sum = 0.0;
        for (uint i = 0u; i < PARTS; ++i) sum += squares[h * PARTS + i];
        inverseRms[h] = inversesqrt(sum / float(HEAD_DIM) + push.normEpsilon);
    }
    barrier();
}

// Element d of a head, normalized: number `which` of the workgroup's query heads, or (HEADS) its key head.
float headElement(uint which, uint firstHead, uint kvHead, uint d) {
    float x = rawElement(which, firstHead, kvHead, d);
    if (NORMED == 0) return x;
    vec2 scale = normScale(d, push.positions);
    return x * inverseRms[which] * (which < uint(HEADS) ? scale.x : scale.y);
}

// The same, rotated for position p.
float rotatedElement(uint which, uint firstHead, uint kvHead, uint d, uint p) {
    if (d >= uint(ROTARY)) return headElement(which, firstHead, kvHead, d);
    uint i = INTERLEAVED != 0 ? d / 2u : d % (uint(ROTARY) / 2u);
    uvec2 pair = rotaryPair(i);
    vec2 angle = rotaryTable[min(p, push.positions - 1u) * (uint(ROTARY) / 2u) + i];
    vec2 v = rotate(vec2(headElement(which, firstHead, kvHead, pair.x), headElement(which, firstHead, kvHead, pair.y)), angle);
    return d == pair.x ? v.x : v.y;
}

// As the ring will hold it: a later step must see the same number as this one.
float asStored(float v) { return CACHE_HALF != 0 ? unpackHalf2x16(packHalves(v, 0.0)).x : v; }
#endif

#ifdef FUSED
float queryElement(uint t, uint firstHead, uint which, uint d) {
    return rotatedElement(which, firstHead, 0u, d, stepParams.position);
}
#elif !defined(WIDE_ROWS)
float queryElement(uint t, uint firstHead, uint which, uint d) {
    return qs[t * push.qStride + push.qOffset + (firstHead + which) * uint(HEAD_DIM) + d];
}
#endif

#ifdef WIDE_ROWS
// Eight neighbouring elements of the output.
void storeEight(uint t, uint head, uint d, float v[8]) {
    uint at = ((t * push.heads + head) * uint(HEAD_DIM) + d) / 8u;
    if (Y_HALF != 0) {
        y[at] = uvec4(packHalves(v[0], v[1]), packHalves(v[2], v[3]), packHalves(v[4], v[5]), packHalves(v[6], v[7]));
    } else {
        y[2u * at] = floatBitsToUint(vec4(v[0], v[1], v[2], v[3]));
        y[2u * at + 1u] = floatBitsToUint(vec4(v[4], v[5], v[6], v[7]));
    }
}
#else
void storePair(uint t, uint head, uint d, float a, float b) {
    uint at = (t * push.heads + head) * uint(HEAD_DIM) + d;
    if (Y_HALF != 0) {
        y[at >> 1] = packHalves(a, b);
    } else {
        y[at] = floatBitsToUint(a);
        y[at + 1u] = floatBitsToUint(b);
    }
}
#endif

#ifdef FUSED
shared vec4 newKey[HEAD_DIM / 4], newValue[HEAD_DIM / 4];

// The new key and value, rotated, into shared memory; the first workgroup of a KV head also writes them to the ring.
void takeNewRow(uint kvHead, uint position) {
    uint lane = gl_LocalInvocationID.x;
    for (uint d = lane; d < uint(HEAD_DIM); d += gl_WorkGroupSize.x) {
        newKey[d >> 2][d & 3u] = asStored(rotatedElement(uint(HEADS), 0u, kvHead, d, position));
        newValue[d >> 2][d & 3u] = asStored(vNew[push.vOffset + kvHead * uint(HEAD_DIM) + d]);
    }
    barrier();
    if (gl_WorkGroupID.z != 0u) return;
    uint at = eightOf(position, kvHead);
    for (uint e = lane; e < uint(HEAD_DIM / 8); e += gl_WorkGroupSize.x) {
        vec4 k0 = newKey[2u * e], k1 = newKey[2u * e + 1u], v0 = newValue[2u * e], v1 = newValue[2u * e + 1u];
        if (CACHE_HALF != 0) {
            K_CACHE_OUT[at + e] = uvec4(packHalves(k0.x, k0.y), packHalves(k0.z, k0.w), packHalves(k1.x, k1.y), packHalves(k1.z, k1.w));
            V_CACHE_OUT[at + e] = uvec4(packHalves(v0.x, v0.y), packHalves(v0.z, v0.w), packHalves(v1.x, v1.y), packHalves(v1.z, v1.w));
        } else {
            K_CACHE_OUT[2u * (at + e)] = floatBitsToUint(k0);
            K_CACHE_OUT[2u * (at + e) + 1u] = floatBitsToUint(k1);
            V_CACHE_OUT[2u * (at + e)] = floatBitsToUint(v0);
            V_CACHE_OUT[2u * (at + e) + 1u] = floatBitsToUint(v1);
        }
    }
}
#endif
