#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
// Attention of many queries on cooperative matrices, for GPUs' prefill: the tiling of Dao et al., "FlashAttention" (2022).
// A workgroup of four subgroups of 32 takes 64 queries of one head, a subgroup 16 of them; keys come in tiles of 32.
// Scores go through shared memory, where two lanes share a row for the online softmax; the output stays in accumulators
// and is rescaled by a matrix whose rows are constant. Grid: ceil(T / 64) x heads.
// Needs a half cache, HEAD_DIM % 16 == 0, T % 16 == 0 (of the buffers).
layout(local_size_x = 128) in;
#include "attention.glsl"

layout(std430, binding = 1) writeonly buffer YFloats { float yFloats[]; };
layout(std430, binding = 1) writeonly buffer YEights { uvec4 yEights[]; };

const uint KEYS = 32u;
const uint ROW = uint(HEAD_DIM / 8 + 1);  // uvec4 per row of keys, values or queries, one of padding
const uint SCORE_ROW = KEYS + 4u;         // floats
const uint WEIGHT_ROW = KEYS / 8u + 1u;   // uvec4

shared uvec4 tiles[64 * (HEAD_DIM / 8 + 1)];  // the queries at first, then 32 keys and 32 values
shared float scores[64 * 36];
shared uvec4 weights[64 * 5];

#define Accumulator coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define HalfAccumulator coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define Left coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define Right coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>

// The 16 x 16 matrix whose row r is `value` of the lanes 2 r and 2 r + 1; takes the place of the subgroup's scores.
Accumulator rowsOf(float value) {
    uint first = gl_SubgroupID * 16u * SCORE_ROW, at = first + gl_SubgroupInvocationID * 8u;
    subgroupBarrier();
    [[unroll]] for (uint i = 0u; i < 8u; ++i) scores[at + i] = value;
    subgroupMemoryBarrierShared();
    subgroupBarrier();
    Accumulator m;
    coopMatLoad(m, scores, first, 16u, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
    return m;
}

void main() {
    uint lane = gl_LocalInvocationIndex, head = gl_WorkGroupID.y, kvHead = head / (push.heads / push.kvHeads);
    uint t0 = gl_WorkGroupID.x * 64u;
    if (t0 >= stepParams.count) return;
    const uint eights = uint(HEAD_DIM / 8);

    for (uint i = lane; i < 64u * eights; i += 128u) {
        uint row = i / eights, e = i % eights;
        uint at = min(t0 + row, push.tokens - 1u) * push.qStride + push.qOffset + head * uint(HEAD_DIM) + 8u * e;
        uvec4 halves;
        [[unroll]] for (uint j = 0u; j < 4u; ++j)
            halves[j] = packHalves(qs[at + 2u * j] * push.scale, qs[at + 2u * j + 1u] * push.scale);
        tiles[row * ROW + e] = halves;
    }
    barrier();
    Left q[HEAD_DIM / 16];
    Accumulator acc[HEAD_DIM / 16];
    [[unroll]] for (int d = 0; d < HEAD_DIM / 16; ++d) {
        coopMatLoad(q[d], tiles, gl_SubgroupID * 16u * ROW + uint(2 * d), ROW, gl_CooperativeMatrixLayoutRowMajor);
        acc[d] = Accumulator(0.0);
    }

    uint row = gl_SubgroupInvocationID >> 1u, column = (gl_SubgroupInvocationID & 1u) * (KEYS / 2u);
    uint position = stepParams.position + t0 + gl_SubgroupID * 16u + row;
    uint oldest = firstKey(position), last = stepParams.position + min(t0 + 64u, stepParams.count) - 1u;
    float largest = NEVER, total = 0.0;

    for (uint tile = firstKey(stepParams.position + t0); tile <= last; tile += KEYS) {
        barrier();  // the tile before (or the queries) has been read
        for (uint i = lane; i < KEYS * eights; i += 128u) {
            uint key = tile + i / eights, e = i % eights;
            bool there = key <= last;
            uint at = eightOf(min(key, last), kvHead) + e;
            tiles[(i / eights) * ROW + e] = there ? kWords(at) : uvec4(0u);
            tiles[(KEYS + i / eights) * ROW + e] = there ? vWords(at) : uvec4(0u);
        }
        barrier();
        Accumulator score[2];
        [[unroll]] for (int k = 0; k < 2; ++k) {
            score[k] = Accumulator(0.0);
            [[unroll]] for (int d = 0; d < HEAD_DIM / 16; ++d) {
                Right keys;
                coopMatLoad(keys, tiles, uint(k) * 16u * ROW + uint(2 * d), ROW, gl_CooperativeMatrixLayoutColumnMajor);
                score[k] = coopMatMulAdd(q[d], keys, score[k]);
            }
            coopMatStore(score[k], scores, gl_SubgroupID * 16u * SCORE_ROW + uint(k) * 16u, SCORE_ROW, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroupMemoryBarrierShared();
        subgroupBarrier();
        float w[KEYS / 2];
        float top = largest;
        uint from = (gl_SubgroupID * 16u + row) * SCORE_ROW + column;
        [[unroll]] for (uint i = 0u; i < KEYS / 2u; ++i) {
            uint key = tile + column + i;
            bool seen = key >= oldest && key <= min(position, last);
            w[i] = seen ? capped(scores[from + i]) : NEVER;
            top = max(top, w[i]);
        }
        top = max(top, subgroupShuffleXor(top, 1u));
        float correction = exp(largest - top), sum = 0.0;
        [[unroll]] for (uint i = 0u; i < KEYS / 2u; ++i) {
            w[i] = w[i] > 0.5 * NEVER ? exp(w[i] - top) : 0.0;
            sum += w[i];
        }
        largest = top;
        total = total * correction + sum + subgroupShuffleXor(sum, 1u);
        uint to = (gl_SubgroupID * 16u + row) * WEIGHT_ROW + column / 8u;
        [[unroll]] for (uint i = 0u; i < KEYS / 16u; ++i)
            weights[to + i] = uvec4(packHalf2x16(vec2(w[8u * i], w[8u * i + 1u])), packHalf2x16(vec2(w[8u * i + 2u], w[8u * i + 3u])),
                                    packHalf2x16(vec2(w[8u * i + 4u], w[8u * i + 5u])), packHalf2x16(vec2(w[8u * i + 6u], w[8u * i + 7u])));
        Accumulator factor = rowsOf(correction);
        Left p[2];
        [[unroll]] for (int k = 0; k < 2; ++k)
            coopMatLoad(p[k], weights, gl_SubgroupID * 16u * WEIGHT_ROW + uint(2 * k), WEIGHT_ROW, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (int d = 0; d < HEAD_DIM / 16; ++d) {
            for (int e = 0; e < acc[d].length(); ++e) acc[d][e] *= factor[e];
            [[unroll]] for (int k = 0; k < 2; ++k) {
                Right values;
                coopMatLoad(values, tiles, (KEYS + uint(k) * 16u) * ROW + uint(2 * d), ROW, gl_CooperativeMatrixLayoutRowMajor);
                acc[d] = coopMatMulAdd(p[k], values, acc[d]);
            }
        }
    }

    Accumulator factor = rowsOf(1.0 / max(total, 1.0e-30));
    uint t = t0 + gl_SubgroupID * 16u;
    if (t >= push.tokens) return;
    [[unroll]] for (int d = 0; d < HEAD_DIM / 16; ++d) {
        for (int e = 0; e < acc[d].length(); ++e) acc[d][e] *= factor[e];
        uint at = (t * push.heads + head) * uint(HEAD_DIM) + uint(d) * 16u;
        uint stride = push.heads * uint(HEAD_DIM);
        if (Y_HALF != 0) {
            for (int e = 0; e < acc[d].length(); ++e) acc[d][e] = clamp(acc[d][e], -65504.0, 65504.0);
            coopMatStore(HalfAccumulator(acc[d]), yEights, at / 8u, stride / 8u, gl_CooperativeMatrixLayoutRowMajor);
        } else {
            coopMatStore(acc[d], yFloats, at, stride, gl_CooperativeMatrixLayoutRowMajor);
        }
    }
}
