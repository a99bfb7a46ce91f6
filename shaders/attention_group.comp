#version 450
#extension GL_GOOGLE_include_directive : require
// Attention for GPUs: one workgroup per query row and group of HEADS heads that share keys and values. Keys are taken in
// tiles of TILE: lanes score keys side by side, then take pairs of output elements, with the online softmax between
// tiles. Shared memory only, no subgroup operation. Grid: T x KV heads x (heads per KV head / HEADS).
// Needs local size >= HEAD_DIM / 2 and TILE a multiple of the local size.
layout(local_size_x_id = 0) in;
#include "attention.glsl"
layout(constant_id = 9) const int LANES = 128;  // the local size again, for array extents
layout(constant_id = 10) const int TILE = 128;

shared float query[HEADS * HEAD_DIM];
shared float weight[HEADS * TILE];
shared float scratch[HEADS * LANES];
shared vec2 outputs[HEADS * LANES];

// Maximum or sum over the lanes for every head at once; the result is in value[].
void reduceHeads(inout float value[HEADS], bool maximum) {
    uint lane = gl_LocalInvocationID.x, live = uint(LANES);
    [[unroll]] for (int h = 0; h < HEADS; ++h) scratch[h * LANES + int(lane)] = value[h];
    barrier();
    while (live > 1u) {
        uint rest = (live + 1u) / 2u;
        if (lane < live / 2u)
            [[unroll]] for (int h = 0; h < HEADS; ++h) {
                uint at = uint(h * LANES) + lane;
                float a = scratch[at], b = scratch[at + rest];
                scratch[at] = maximum ? max(a, b) : a + b;
            }
        live = rest;
        barrier();
    }
    [[unroll]] for (int h = 0; h < HEADS; ++h) value[h] = scratch[h * LANES];
    barrier();
}

void scoreKey(uint key, uint kvHead, uint position, out float score[HEADS]) {
    [[unroll]] for (int h = 0; h < HEADS; ++h) score[h] = 0.0;
    uint at = eightOf(key, kvHead);
    [[unroll]] for (uint e = 0u; e < uint(HEAD_DIM / 8); ++e) {
        float k[8];
#ifdef FUSED
        if (key == position) {
            [[unroll]] for (int i = 0; i < 8; ++i) k[i] = newKey[2u * e + uint(i >> 2)][i & 3];
        } else
#endif
        loadKeyEight(at + e, k);
        [[unroll]] for (int h = 0; h < HEADS; ++h)
            [[unroll]] for (int i = 0; i < 8; ++i)
                score[h] = fma(query[uint(h * HEAD_DIM) + 8u * e + uint(i)], k[i], score[h]);
    }
    [[unroll]] for (int h = 0; h < HEADS; ++h) score[h] = capped(score[h]);
}

vec2 valuePair(uint key, uint kvHead, uint pair, uint position) {
#ifdef FUSED
    if (key == position) return (pair & 1u) == 0u ? newValue[pair >> 1].xy : newValue[pair >> 1].zw;
#endif
    uint at = eightOf(key, kvHead) * 4u + pair;  // in pairs
    if (CACHE_HALF != 0) return unpackHalf2x16(vWords(at >> 2)[at & 3u]);
    uvec4 words = vWords(at >> 1);
    return uintBitsToFloat((at & 1u) == 0u ? words.xy : words.zw);
}

void main() {
    uint kvHead = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x, t = gl_WorkGroupID.x;
    uint firstHead = kvHead * (push.heads / push.kvHeads) + gl_WorkGroupID.z * uint(HEADS);
    if (t >= stepParams.count) return;
    uint position = stepParams.position + t, first = firstKey(position);
#ifdef FUSED
    measureHeads(firstHead, kvHead);
#endif
    for (uint i = lane; i < uint(HEADS * HEAD_DIM); i += uint(LANES))
        query[i] = queryElement(t, firstHead, i / uint(HEAD_DIM), i % uint(HEAD_DIM)) * push.scale;
#ifdef FUSED
    takeNewRow(kvHead, position);
#endif
    barrier();

    const uint pairs = uint(HEAD_DIM / 2), parts = uint(LANES) / pairs;
    uint pair = lane % pairs, part = lane / pairs;
    float largest[HEADS], total[HEADS];
    vec2 acc[HEADS];
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        largest[h] = NEVER;
        total[h] = 0.0;
        acc[h] = vec2(0.0);
    }
    for (uint tile = first; tile <= position; tile += uint(TILE)) {
        float top[HEADS], sum[HEADS];
        [[unroll]] for (int h = 0; h < HEADS; ++h) top[h] = NEVER;
        for (uint i = lane; i < uint(TILE); i += uint(LANES)) {
            float score[HEADS];
            [[unroll]] for (int h = 0; h < HEADS; ++h) score[h] = NEVER;
            if (tile + i <= position) scoreKey(tile + i, kvHead, position, score);
            [[unroll]] for (int h = 0; h < HEADS; ++h) {
                weight[uint(h * TILE) + i] = score[h];
                top[h] = max(top[h], score[h]);
            }
        }
        reduceHeads(top, true);
        [[unroll]] for (int h = 0; h < HEADS; ++h) {
            top[h] = max(top[h], largest[h]);
            float correction = exp(largest[h] - top[h]);
            largest[h] = top[h];
            total[h] *= correction;
            acc[h] *= correction;
            sum[h] = 0.0;
        }
        for (uint i = lane; i < uint(TILE); i += uint(LANES))
            [[unroll]] for (int h = 0; h < HEADS; ++h) {
                uint at = uint(h * TILE) + i;
                float w = tile + i <= position ? exp(weight[at] - top[h]) : 0.0;
                weight[at] = w;
                sum[h] += w;
            }
        reduceHeads(sum, false);  // its barriers also publish the weights
        [[unroll]] for (int h = 0; h < HEADS; ++h) total[h] += sum[h];
        uint end = min(tile + uint(TILE), position + 1u);
        if (part < parts)
            for (uint key = tile + part; key < end; key += 4u * parts) {  // four loads under way at once
                vec2 v[4];
                [[unroll]] for (uint b = 0u; b < 4u; ++b) v[b] = valuePair(min(key + b * parts, end - 1u), kvHead, pair, position);
                [[unroll]] for (uint b = 0u; b < 4u; ++b) {
                    uint k = key + b * parts;
                    [[unroll]] for (int h = 0; h < HEADS; ++h)
                        acc[h] += (k < end ? weight[uint(h * TILE) + min(k, end - 1u) - tile] : 0.0) * v[b];
                }
            }
        barrier();
    }
    [[unroll]] for (int h = 0; h < HEADS; ++h) outputs[uint(h * LANES) + lane] = acc[h];
    barrier();
    if (lane >= pairs) return;
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        vec2 value = acc[h];
        for (uint p = 1u; p < parts; ++p) value += outputs[uint(h * LANES) + p * pairs + pair];
        storePair(t, firstHead + uint(h), 2u * pair, value.x / total[h], value.y / total[h]);
    }
}
