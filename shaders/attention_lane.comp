#version 450
#extension GL_GOOGLE_include_directive : require
// Attention for CPU-like devices: one invocation owns a whole query row (of HEADS heads that share keys and values) in
// registers, with the online softmax of Milakov and Gimelshein (2018) over blocks of keys.
// Without FUSED the lanes are neighbouring tokens; with FUSED (one token) they share the keys among them and combine.
// Grid: (FUSED ? 1 : ceil(T / local size)) x KV heads x (heads per KV head / HEADS).
layout(local_size_x_id = 0) in;
#define WIDE_ROWS
#include "attention.glsl"
layout(constant_id = 8) const int SHARED_FLOATS = 1;  // FUSED: local size * HEADS * (HEAD_DIM + 2)
layout(constant_id = 11) const int BLOCK = 4;          // keys taken at once: bounds the size of the unrolled code

float q[HEADS][HEAD_DIM], acc[HEADS][HEAD_DIM];
float largest[HEADS], total[HEADS];

#ifdef FUSED
shared float partial[SHARED_FLOATS];
shared vec4 queryRow[HEADS * HEAD_DIM / 4];
#endif

// Takes the scores of one block of keys and folds their values in. `at` are cache positions in eights.
void fold(uint at[BLOCK], bool seen[BLOCK]) {
    float score[HEADS][BLOCK];
    [[unroll]] for (int h = 0; h < HEADS; ++h) [[unroll]] for (int b = 0; b < BLOCK; ++b) score[h][b] = 0.0;
    [[unroll]] for (int e = 0; e < HEAD_DIM / 8; ++e)
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            float k[8];
            loadKeyEight(at[b] + uint(e), k);
            [[unroll]] for (int h = 0; h < HEADS; ++h)
                [[unroll]] for (int i = 0; i < 8; ++i) score[h][b] = fma(q[h][8 * e + i], k[i], score[h][b]);
        }
    float correction[HEADS];
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        float top = largest[h];
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            score[h][b] = seen[b] ? capped(score[h][b]) : NEVER;
            top = max(top, score[h][b]);
        }
        correction[h] = exp(largest[h] - top);
        largest[h] = top;
        total[h] *= correction[h];
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            score[h][b] = seen[b] ? exp(score[h][b] - top) : 0.0;
            total[h] += score[h][b];
        }
    }
    [[unroll]] for (int e = 0; e < HEAD_DIM / 8; ++e) {
        [[unroll]] for (int h = 0; h < HEADS; ++h) [[unroll]] for (int i = 0; i < 8; ++i) acc[h][8 * e + i] *= correction[h];
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            float v[8];
            loadValueEight(at[b] + uint(e), v);
            [[unroll]] for (int h = 0; h < HEADS; ++h)
                [[unroll]] for (int i = 0; i < 8; ++i) acc[h][8 * e + i] = fma(score[h][b], v[i], acc[h][8 * e + i]);
        }
    }
}

// The query row into registers, sixteen bytes a load: this code is unrolled, and loads are what makes it large.
void begin(uint t, uint firstHead) {
#ifdef FUSED
    for (uint i = gl_LocalInvocationID.x; i < uint(HEADS * HEAD_DIM); i += gl_WorkGroupSize.x)
        queryRow[i >> 2][i & 3u] = queryElement(t, firstHead, i / uint(HEAD_DIM), i % uint(HEAD_DIM));
    barrier();
#endif
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        largest[h] = NEVER;
        total[h] = 0.0;
        [[unroll]] for (int d = 0; d < HEAD_DIM; d += 4) {
#ifdef FUSED
            vec4 four = queryRow[(h * HEAD_DIM + d) / 4] * push.scale;
#else
            uint at = t * push.qStride + push.qOffset + (firstHead + uint(h)) * uint(HEAD_DIM) + uint(d);
            vec4 four = qs[at / 4u] * push.scale;
#endif
            [[unroll]] for (int i = 0; i < 4; ++i) {
                q[h][d + i] = four[i];
                acc[h][d + i] = 0.0;
            }
        }
    }
}

#ifndef FUSED
void main() {
    uint kvHead = gl_WorkGroupID.y;
    uint firstHead = kvHead * (push.heads / push.kvHeads) + gl_WorkGroupID.z * uint(HEADS);
    uint t0 = gl_WorkGroupID.x * gl_WorkGroupSize.x;
    if (t0 >= stepParams.count) return;
    uint t = min(t0 + gl_LocalInvocationID.x, stepParams.count - 1u);
    uint position = stepParams.position + t;
    uint last = stepParams.position + min(t0 + gl_WorkGroupSize.x, stepParams.count) - 1u;
    begin(t, firstHead);
    uint first = firstKey(position);
    for (uint k = firstKey(stepParams.position + t0); k <= last; k += BLOCK) {
        uint at[BLOCK];
        bool seen[BLOCK];
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            uint key = k + uint(b);
            seen[b] = key >= first && key <= position;
            at[b] = eightOf(min(key, last), kvHead);
        }
        fold(at, seen);
    }
    if (t0 + gl_LocalInvocationID.x >= stepParams.count) return;
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        float factor = 1.0 / total[h];
        [[unroll]] for (int d = 0; d < HEAD_DIM; d += 8) {
            float v[8];
            [[unroll]] for (int i = 0; i < 8; ++i) v[i] = acc[h][d + i] * factor;
            storeEight(t, firstHead + uint(h), uint(d), v);
        }
    }
}
#else
void foldNewRow() {
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        float score = 0.0;
        [[unroll]] for (int d = 0; d < HEAD_DIM; ++d) score = fma(q[h][d], newKey[d >> 2][d & 3], score);
        score = capped(score);
        float top = max(largest[h], score), correction = exp(largest[h] - top), weight = exp(score - top);
        largest[h] = top;
        total[h] = total[h] * correction + weight;
        [[unroll]] for (int d = 0; d < HEAD_DIM; ++d) acc[h][d] = fma(weight, newValue[d >> 2][d & 3], acc[h][d] * correction);
    }
}

void main() {
    uint kvHead = gl_WorkGroupID.y, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint firstHead = kvHead * (push.heads / push.kvHeads) + gl_WorkGroupID.z * uint(HEADS);
    uint position = stepParams.position;
    measureHeads(firstHead, kvHead);
    takeNewRow(kvHead, position);
    begin(0u, firstHead);
    uint first = firstKey(position);
    for (uint k = first; k < position; k += BLOCK * lanes) {
        uint at[BLOCK];
        bool seen[BLOCK];
        [[unroll]] for (int b = 0; b < BLOCK; ++b) {
            uint key = k + uint(b) * lanes + lane;
            seen[b] = key < position;
            at[b] = eightOf(min(key, position - 1u), kvHead);
        }
        fold(at, seen);
    }
    if (lane == 0u) foldNewRow();
    // Combine the lanes' parts: maximum, sum and unnormalized output of each.
    const uint width = uint(HEAD_DIM + 2);
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        uint at = (lane * uint(HEADS) + uint(h)) * width;
        partial[at] = largest[h];
        partial[at + 1u] = total[h];
        [[unroll]] for (int d = 0; d < HEAD_DIM; ++d) partial[at + 2u + uint(d)] = acc[h][d];
    }
    barrier();
    for (uint i = lane; i < uint(HEADS * HEAD_DIM / 8); i += lanes) {
        uint h = i / uint(HEAD_DIM / 8), d = 8u * (i % uint(HEAD_DIM / 8));
        float top = NEVER, sum = 0.0, value[8];
        for (uint l = 0u; l < lanes; ++l) top = max(top, partial[(l * uint(HEADS) + h) * width]);
        [[unroll]] for (int j = 0; j < 8; ++j) value[j] = 0.0;
        for (uint l = 0u; l < lanes; ++l) {
            uint at = (l * uint(HEADS) + h) * width;
            float weight = exp(partial[at] - top);
            sum = fma(weight, partial[at + 1u], sum);
            [[unroll]] for (int j = 0; j < 8; ++j) value[j] = fma(weight, partial[at + 2u + d + uint(j)], value[j]);
        }
        [[unroll]] for (int j = 0; j < 8; ++j) value[j] /= sum;
        storeEight(0u, firstHead + h, d, value);
    }
}
#endif
