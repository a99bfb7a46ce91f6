#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_KHR_shader_subgroup_basic : require
// Matrix product with packed weights on cooperative matrices (VK_KHR_cooperative_matrix, 16 x 16 x 16, fp16 in, fp32 out)
// for GPUs' prefill. A workgroup of TOKEN_PARTS x ROW_PARTS subgroups of 32 makes a tile of tokens x rows, each subgroup
// 16 TILES x 16 COLUMNS of it; weights are dequantized and activations rounded to halves on their way into shared memory,
// while the next slice of 32 columns is already on its way into registers. With two BUFFERS a slice is written while
// others still read the one before. Gated weights put gate rows beside their up rows, and a subgroup takes as many of
// each, so that it holds both in accumulators of the same layout.
// Grid: token tiles x row tiles, so that neighbouring workgroups share weights.
// Needs columns % 32 == 0, outputs % 16 == 0, first % 16 == 0, tokens % 16 == 0 (of the buffers), no bias.
layout(local_size_x_id = 0) in;
#include "linear.glsl"
layout(constant_id = 13) const int TILES = 4;        // 16-token tiles of a subgroup
layout(constant_id = 14) const int COLUMNS = 4;      // 16-row tiles of a subgroup; even
layout(constant_id = 15) const int TOKEN_PARTS = 2;  // subgroups side by side over tokens
layout(constant_id = 16) const int ROW_PARTS = 2;    // over rows
layout(constant_id = 17) const int BUFFERS = 1;
layout(constant_id = 18) const int DEPTH = 1;        // a slice is 32 DEPTH columns
#include "half_codes.glsl"

layout(std430, binding = 3) writeonly buffer ResultFloats { float resultFloats[]; };
layout(std430, binding = 3) writeonly buffer ResultEights { uvec4 resultEights[]; };

const int THREADS = 32 * TOKEN_PARTS * ROW_PARTS;
const int TILE_TOKENS = 16 * TILES * TOKEN_PARTS;
const int TILE_ROWS = 16 * COLUMNS * ROW_PARTS;
const uint EIGHTHS = uint(4 * DEPTH);     // uvec4 of halves per row of a slice
const uint STRIDE = uint(4 * DEPTH + 1);  // one of padding against bank conflicts
shared uvec4 weightTile[BUFFERS * TILE_ROWS * (4 * DEPTH + 1)];
shared uvec4 inputTile[BUFFERS * TILE_TOKENS * (4 * DEPTH + 1)];

#define Accumulator coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>
#define HalfAccumulator coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>

// Row of the weight behind row `local` of the tile whose first output is `base`.
uint tileRow(uint base, uint local) {
    const uint half_ = uint(TILE_ROWS / 2);
    bool up = GATED != 0 && local >= half_;
    return min(base + local - (up ? half_ : 0u), push.outputs - 1u) + (up ? push.outputs : 0u);
}

// First row in the tile of accumulator column j of a subgroup: plain, its rows one after another; gated, half of them
// gate rows, then their up rows.
uint tileColumn(uint part, int j) {
    if (GATED == 0) return (part * uint(COLUMNS) + uint(j)) * 16u;
    const int half_ = COLUMNS / 2;
    return (j >= half_ ? uint(TILE_ROWS / 2) : 0u) + (part * uint(half_) + uint(j % half_)) * 16u;
}

// Eight weights of a chunk as halves.
uvec4 dequantized(Chunk chunk, int e, vec2 scale) {
    uvec4 halves;
#if WEIGHT == E0M4_AFFINE || WEIGHT == E0M4_SYMMETRIC
    f16vec2 w[4];
    planeWeights(chunk.part[0], e, scale, w);
    [[unroll]] for (int i = 0; i < 4; ++i) halves[i] = packFloat2x16(w[i]);
#else
    [[unroll]] for (int i = 0; i < 4; ++i) halves[i] = packHalf2x16(codePair(chunk, e, i) * scale.x + scale.y);
#endif
    return halves;
}

uvec4 inputEight(uint at) {
    if (X_HALF != 0) return xs(at);
    float x[8];
    loadEight(at, x);
    return uvec4(packHalves(x[0], x[1]), packHalves(x[2], x[3]), packHalves(x[4], x[5]), packHalves(x[6], x[7]));
}

void main() {
    uint lane = gl_LocalInvocationIndex, tokenPart = gl_SubgroupID % uint(TOKEN_PARTS), rowPart = gl_SubgroupID / uint(TOKEN_PARTS);
    uint base = gl_WorkGroupID.y * uint(GATED != 0 ? TILE_ROWS / 2 : TILE_ROWS), firstToken = gl_WorkGroupID.x * uint(TILE_TOKENS);
    uint eights = push.columns / 8u, slices = push.columns / uint(32 * DEPTH);

    // What this invocation brings in: chunks of weights (some bring none), and eighths of inputs.
    const int CHUNKS = (TILE_ROWS * DEPTH + THREADS - 1) / THREADS, INPUTS = TILE_TOKENS * 4 * DEPTH / THREADS;
    Chunk chunk[CHUNKS][4 / EIGHTS];
    vec2 scale[CHUNKS][4 / EIGHTS];
    uvec4 inputs[INPUTS];

    Accumulator sum[TILES][COLUMNS];
    [[unroll]] for (int i = 0; i < TILES; ++i)
        [[unroll]] for (int j = 0; j < COLUMNS; ++j) sum[i][j] = Accumulator(0.0);

    for (uint slice = 0u; slice <= slices; ++slice) {
        uint odd = BUFFERS > 1 ? (slice & 1u) : 0u, weightsAt = odd * uint(TILE_ROWS) * STRIDE, inputsAt = odd * uint(TILE_TOKENS) * STRIDE;
        if (slice > 0u) {  // publish the slice fetched before, then multiply it while the next is fetched
            if (BUFFERS == 1) barrier();
            [[unroll]] for (int n = 0; n < CHUNKS; ++n) {
                uint item = lane + uint(n * THREADS), at = item % uint(TILE_ROWS) * STRIDE + item / uint(TILE_ROWS) * 4u;
                if (item < uint(TILE_ROWS * DEPTH))
                    [[unroll]] for (int e = 0; e < 4; ++e)
                        weightTile[weightsAt + at + uint(e)] = dequantized(chunk[n][e / EIGHTS], e % EIGHTS, scale[n][e / EIGHTS]);
            }
            [[unroll]] for (int j = 0; j < INPUTS; ++j) {
                uint at = lane + uint(j * THREADS);
                inputTile[inputsAt + at / EIGHTHS * STRIDE + at % EIGHTHS] = inputs[j];
            }
            barrier();
        }
        if (slice < slices) {
            [[unroll]] for (int n = 0; n < CHUNKS; ++n) {
                uint item = lane + uint(n * THREADS), row = tileRow(base, item % uint(TILE_ROWS));
                if (item < uint(TILE_ROWS * DEPTH))
                    [[unroll]] for (int j = 0; j < 4 / EIGHTS; ++j) {
                        uint c = (slice * uint(DEPTH) + item / uint(TILE_ROWS)) * uint(4 / EIGHTS) + uint(j);
                        chunk[n][j] = chunkOf(c, row, push.rows);
                        scale[n][j] = SCALE_TO_PLANE(scaleOf(c, row, push.rows, uint(CHUNKS_PER_GROUP)));
                    }
            }
            [[unroll]] for (int j = 0; j < INPUTS; ++j) {
                uint at = lane + uint(j * THREADS), token = min(firstToken + at / EIGHTHS, push.tokens - 1u);
                inputs[j] = inputEight(token * eights + slice * EIGHTHS + at % EIGHTHS);
            }
        }
        if (slice == 0u) continue;
        [[unroll]] for (uint k = 0u; k < uint(2 * DEPTH); ++k) {
            coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> w[COLUMNS];
            [[unroll]] for (int j = 0; j < COLUMNS; ++j)
                coopMatLoad(w[j], weightTile, weightsAt + tileColumn(rowPart, j) * STRIDE + 2u * k, STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
            [[unroll]] for (int i = 0; i < TILES; ++i) {
                coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> x;
                uint first = (tokenPart * uint(TILES) + uint(i)) * 16u;
                coopMatLoad(x, inputTile, inputsAt + first * STRIDE + 2u * k, STRIDE, gl_CooperativeMatrixLayoutRowMajor);
                [[unroll]] for (int j = 0; j < COLUMNS; ++j) sum[i][j] = coopMatMulAdd(x, w[j], sum[i][j]);
            }
        }
    }

    // Accumulators are indexed by constants only: a loop that is not unrolled would put them all into memory.
    const int held = GATED != 0 ? COLUMNS / 2 : COLUMNS;
    [[unroll]] for (int i = 0; i < TILES; ++i) {
        uint t = firstToken + (tokenPart * uint(TILES) + uint(i)) * 16u;
        [[unroll]] for (int j = 0; j < COLUMNS; ++j) {
            uint n = base + tileColumn(rowPart, j);
            if (t >= push.tokens || n >= push.outputs || j >= held) continue;
            for (int e = 0; e < sum[i][j].length(); ++e) {
                sum[i][j][e] = activate(sum[i][j][e]);
                if (GATED != 0) sum[i][j][e] *= sum[i][(j + COLUMNS / 2) % COLUMNS][e];
            }
            uint at = t * push.stride + push.first + n;
            if (HAS_RESIDUAL != 0) {
                Accumulator before;
                coopMatLoad(before, residual, at, push.stride, gl_CooperativeMatrixLayoutRowMajor);
                sum[i][j] += before;
            }
            if (Y_HALF != 0) {
                for (int e = 0; e < sum[i][j].length(); ++e) sum[i][j][e] = clamp(sum[i][j][e], -65504.0, 65504.0);
                coopMatStore(HalfAccumulator(sum[i][j]), resultEights, at / 8u, push.stride / 8u, gl_CooperativeMatrixLayoutRowMajor);
            } else {
                coopMatStore(sum[i][j], resultFloats, at, push.stride, gl_CooperativeMatrixLayoutRowMajor);
            }
        }
    }
}
