#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
// Matrix product with packed weights on cooperative matrices (VK_KHR_cooperative_matrix, 16 x 16 x 16, fp16 in, fp32 out)
// for GPUs' prefill. A workgroup of four subgroups of 32 makes a tile of 32 * TILES tokens x 128 rows, each subgroup half
// of either; weights are dequantized and activations rounded to halves on their way into shared memory, while the next
// slice of 32 columns is already on its way into registers. Gated weights put 64 gate rows beside their 64 up rows, and a
// subgroup takes 32 of each, so that it holds both in accumulators of the same layout.
// Grid: ceil(rows / 128) x ceil(tokens / (32 * TILES)).
// Needs columns % 32 == 0, outputs % 16 == 0, tokens % 16 == 0 (of the buffers), no bias, float results.
layout(local_size_x = 128) in;
#include "linear.glsl"
layout(constant_id = 13) const int TILES = 4;  // 16-token tiles per subgroup: 2 or 4

layout(std430, binding = 3) writeonly buffer ResultFloats { float resultFloats[]; };

const uint STRIDE = 5u;  // uvec4 per row of 32 halves, one of padding against bank conflicts
shared uvec4 weightTile[128 * 5];
shared uvec4 inputTile[128 * 5];

#define Accumulator coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>

// Row of the weight behind row `local` of the tile whose first output is `base`.
uint tileRow(uint base, uint local) {
    uint n = GATED != 0 ? base + (local & 63u) : base + local;
    return min(n, push.outputs - 1u) + (GATED != 0 && local >= 64u ? push.outputs : 0u);
}

// First row in the tile of accumulator column j of a subgroup: plain, 64 rows in a row; gated, 32 gate rows, then their
// 32 up rows.
uint tileColumn(uint rowHalf, int j) {
    return GATED != 0 ? uint(j >> 1) * 64u + rowHalf * 32u + uint(j & 1) * 16u : rowHalf * 64u + uint(j) * 16u;
}

void main() {
    uint lane = gl_LocalInvocationIndex, subgroup = gl_SubgroupID;
    uint base = gl_WorkGroupID.x * (GATED != 0 ? 64u : 128u), firstToken = gl_WorkGroupID.y * uint(32 * TILES);
    uint eights = push.columns / 8u;

    // What this invocation brings in: 32 weights of one row, and TILES eighths of inputs.
    uint row = tileRow(base, lane);
    Chunk chunk[4 / EIGHTS];
    vec2 scale[4 / EIGHTS];
    uvec4 inputs[TILES];

    Accumulator sum[TILES][4];
    [[unroll]] for (int i = 0; i < TILES; ++i)
        [[unroll]] for (int j = 0; j < 4; ++j) sum[i][j] = Accumulator(0.0);
    uint tokenHalf = subgroup & 1u, rowHalf = subgroup >> 1u;

    for (uint slice = 0u; slice <= push.columns / 32u; ++slice) {
        if (slice > 0u) {  // publish the slice fetched before, then multiply it while the next is fetched
            barrier();
            [[unroll]] for (int e = 0; e < 4; ++e) {
                uvec4 halves;
                [[unroll]] for (int i = 0; i < 4; ++i) {
                    vec2 w = codePair(chunk[e / EIGHTS], e % EIGHTS, i) * scale[e / EIGHTS].x + scale[e / EIGHTS].y;
                    halves[i] = packHalf2x16(w);
                }
                weightTile[lane * STRIDE + uint(e)] = halves;
            }
            [[unroll]] for (int j = 0; j < TILES; ++j) {
                uint at = lane + uint(j) * 128u;
                inputTile[(at >> 2u) * STRIDE + (at & 3u)] = inputs[j];
            }
            barrier();
        }
        if (slice < push.columns / 32u) {
            [[unroll]] for (int j = 0; j < 4 / EIGHTS; ++j) {
                uint c = slice * uint(4 / EIGHTS) + uint(j);
                chunk[j] = chunkOf(c, row, push.rows);
                scale[j] = SCALE_TO_CODE(scaleOf(c, row, push.rows, uint(CHUNKS_PER_GROUP)));
            }
            [[unroll]] for (int j = 0; j < TILES; ++j) {
                uint at = lane + uint(j) * 128u, token = min(firstToken + (at >> 2u), push.tokens - 1u);
                float x[8];
                loadEight(token * eights + slice * 4u + (at & 3u), x);
                inputs[j] = uvec4(packHalves(x[0], x[1]), packHalves(x[2], x[3]), packHalves(x[4], x[5]), packHalves(x[6], x[7]));
            }
        }
        if (slice == 0u) continue;
        [[unroll]] for (uint k = 0u; k < 2u; ++k) {
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> w[4];
            [[unroll]] for (int j = 0; j < 4; ++j)
                coopMatLoad(w[j], weightTile, tileColumn(rowHalf, j) * STRIDE + 2u * k, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (int i = 0; i < TILES; ++i) {
                coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> x;
                uint first = (tokenHalf * uint(TILES) + uint(i)) * 16u;
                coopMatLoad(x, inputTile, first * STRIDE + 2u * k, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (int j = 0; j < 4; ++j) sum[i][j] = coopMatMulAdd(x, w[j], sum[i][j]);
            }
        }
    }

    // Accumulators are indexed by constants only: a loop that is not unrolled would put them all into memory.
    [[unroll]] for (int i = 0; i < TILES; ++i) {
        uint t = firstToken + (tokenHalf * uint(TILES) + uint(i)) * 16u;
        [[unroll]] for (int j = 0; j < 4; ++j) {
            uint n = base + tileColumn(rowHalf, j);
            if (t >= push.tokens || n >= push.outputs || (GATED != 0 && j >= 2)) continue;
            for (int e = 0; e < sum[i][j].length(); ++e) {
                sum[i][j][e] = activate(sum[i][j][e]);
                if (GATED != 0) sum[i][j][e] *= sum[i][(j + 2) & 3][e];
            }
            uint at = t * push.stride + push.first + n;
            if (HAS_RESIDUAL != 0) {
                Accumulator before;
                coopMatLoad(before, residual, at, push.stride, gl_CooperativeMatrixLayoutRowMajor);
                sum[i][j] += before;
            }
            coopMatStore(sum[i][j], resultFloats, at, push.stride, gl_CooperativeMatrixLayoutRowMajor);
        }
    }
}
