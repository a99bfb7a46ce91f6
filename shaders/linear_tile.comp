#version 450
#extension GL_GOOGLE_include_directive : require
// Matrix product with packed weights, one register tile of ROWS x TOKENS per invocation, no communication between
// invocations: right at any subgroup size. It is the prefill kernel without cooperative matrices and, with TOKENS = 1,
// the decode kernel of CPU-like devices, where a load costs as much as twenty multiply-adds.
// Grid: ceil(outputs / (local size * ROWS)) x ceil(tokens / TOKENS), ROWS counted over gate and up rows.
layout(local_size_x_id = 0) in;
#include "linear.glsl"

void main() {
    int perLane = GATED != 0 ? ROWS / 2 : ROWS;
    uint base = gl_WorkGroupID.x * gl_WorkGroupSize.x * uint(perLane) + 2u * gl_LocalInvocationID.x;
    uint t0 = gl_WorkGroupID.y * uint(TOKENS);
    uint eights = push.columns / 8u;
    uint row[ROWS];
    [[unroll]] for (int r = 0; r < ROWS; ++r) row[r] = weightRow(base, r);
    uint start[TOKENS];
    [[unroll]] for (int t = 0; t < TOKENS; ++t) start[t] = min(t0 + uint(t), push.tokens - 1u) * eights;

    float sum[ROWS][TOKENS];
    [[unroll]] for (int r = 0; r < ROWS; ++r)
        [[unroll]] for (int t = 0; t < TOKENS; ++t) sum[r][t] = 0.0;
    float squares[TOKENS];
    [[unroll]] for (int t = 0; t < TOKENS; ++t) squares[t] = 0.0;

    for (uint c = 0; c < push.columns / uint(CHUNK); ++c) {
        Chunk chunk[ROWS];
        vec2 scale[ROWS];
        [[unroll]] for (int r = 0; r < ROWS; ++r) {
            chunk[r] = chunkOf(c, row[r], push.rows);
            scale[r] = SCALE_TO_CODE(scaleOf(c, row[r], push.rows, uint(CHUNKS_PER_GROUP)));
        }
        if (TOKENS == 1) {
            float part[ROWS], total = 0.0;
            [[unroll]] for (int r = 0; r < ROWS; ++r) part[r] = 0.0;
            [[unroll]] for (int e = 0; e < EIGHTS; ++e) {
                float x[8];
                loadEight(start[0] + c * uint(EIGHTS) + uint(e), x);
                if (NORM != 0) squares[0] += scaleByNorm(c * uint(EIGHTS) + uint(e), x);
                [[unroll]] for (int i = 0; i < 4; ++i) {
                    total += x[2 * i] + x[2 * i + 1];
                    [[unroll]] for (int r = 0; r < ROWS; ++r) {
                        vec2 code = INNER_PAIR(chunk[r], e, i, scale[r]);
                        part[r] = fma(code.y, x[2 * i + 1], fma(code.x, x[2 * i], part[r]));
                    }
                }
            }
            [[unroll]] for (int r = 0; r < ROWS; ++r) sum[r][0] += FINISHED_SUM(scale[r], part[r], total);
        } else {
            // Not unrolled: a tile of 16 x 8 is code enough, and drivers compile it at the user's first start.
            for (int e = 0; e < EIGHTS; ++e) {
                float x[TOKENS][8];
                [[unroll]] for (int t = 0; t < TOKENS; ++t) {
                    loadEight(start[t] + c * uint(EIGHTS) + uint(e), x[t]);
                    if (NORM != 0) squares[t] += scaleByNorm(c * uint(EIGHTS) + uint(e), x[t]);
                }
                [[unroll]] for (int i = 0; i < 4; ++i)
                    [[unroll]] for (int r = 0; r < ROWS; ++r) {
                        vec2 w = weightPair(chunk[r], e, i, scale[r]);
                        [[unroll]] for (int t = 0; t < TOKENS; ++t)
                            sum[r][t] = fma(w.y, x[t][2 * i + 1], fma(w.x, x[t][2 * i], sum[r][t]));
                    }
            }
        }
    }

    [[unroll]] for (int r = 0; r < perLane; r += 2)
        [[unroll]] for (int t = 0; t < TOKENS; ++t) {
            float factor = NORM != 0 ? inversesqrt(squares[t] / float(push.columns) + push.epsilon) : 1.0;
            vec2 y = vec2(sum[r][t], sum[r + 1][t]) * factor;
            vec2 up = GATED != 0 ? vec2(sum[r + perLane][t], sum[r + perLane + 1][t]) * factor : vec2(0.0);
            finish(t0 + uint(t), base + uint(r / 2) * 2u * gl_WorkGroupSize.x, y, up);
        }
}
