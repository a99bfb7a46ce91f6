#version 450
#extension GL_GOOGLE_include_directive : require
// Matrix-vector product with packed weights for GPUs. A workgroup is local_size_x lanes of ROWS neighbouring-pair rows
// times local_size_y slices of the reduction; the slices' sums meet in shared memory. Lanes read neighbouring words, no
// subgroup operation is used, so it is right at any subgroup size. Grid: ceil(outputs / (lanes * ROWS)) x tokens.
layout(local_size_x_id = 0, local_size_y_id = 11) in;
#include "linear.glsl"
layout(constant_id = 12) const int SHARED_FLOATS = 1;  // lanes * slices * (ROWS + 1)
shared float partial[SHARED_FLOATS];

void main() {
    int perLane = GATED != 0 ? ROWS / 2 : ROWS;
    uint lanes = gl_WorkGroupSize.x, lane = gl_LocalInvocationID.x, slice = gl_LocalInvocationID.y;
    uint base = gl_WorkGroupID.x * lanes * uint(perLane) + 2u * lane;
    uint t = gl_WorkGroupID.y, start = t * (push.columns / 8u);
    uint row[ROWS];
    float sum[ROWS];
    [[unroll]] for (int r = 0; r < ROWS; ++r) {
        row[r] = weightRow(base, r);
        sum[r] = 0.0;
    }
    float squares = 0.0;
    for (uint c = slice; c < push.columns / uint(CHUNK); c += gl_WorkGroupSize.y) {
        Chunk chunk[ROWS];
        vec2 scale[ROWS];
        float part[ROWS], total = 0.0;
        [[unroll]] for (int r = 0; r < ROWS; ++r) {
            chunk[r] = chunkOf(c, row[r], push.rows);
            scale[r] = SCALE_TO_CODE(scaleOf(c, row[r], push.rows, uint(CHUNKS_PER_GROUP)));
            part[r] = 0.0;
        }
        [[unroll]] for (int e = 0; e < EIGHTS; ++e) {
            float x[8];
            loadEight(start + c * uint(EIGHTS) + uint(e), x);
            if (NORM != 0) squares += scaleByNorm(c * uint(EIGHTS) + uint(e), x);
            [[unroll]] for (int i = 0; i < 4; ++i) {
                total += x[2 * i] + x[2 * i + 1];
                [[unroll]] for (int r = 0; r < ROWS; ++r) {
                    vec2 code = INNER_PAIR(chunk[r], e, i, scale[r]);
                    part[r] = fma(code.y, x[2 * i + 1], fma(code.x, x[2 * i], part[r]));
                }
            }
        }
        [[unroll]] for (int r = 0; r < ROWS; ++r) sum[r] += FINISHED_SUM(scale[r], part[r], total);
    }
    const uint width = uint(ROWS + 1);
    uint at = (slice * lanes + lane) * width;
    [[unroll]] for (int r = 0; r < ROWS; ++r) partial[at + uint(r)] = sum[r];
    partial[at + uint(ROWS)] = squares;
    barrier();
    if (slice != 0u) return;
    for (uint s = 1u; s < gl_WorkGroupSize.y; ++s) {
        uint from = (s * lanes + lane) * width;
        [[unroll]] for (int r = 0; r < ROWS; ++r) sum[r] += partial[from + uint(r)];
        squares += partial[from + uint(ROWS)];
    }
    float factor = NORM != 0 ? inversesqrt(squares / float(push.columns) + push.epsilon) : 1.0;
    [[unroll]] for (int r = 0; r < perLane; r += 2) {
        vec2 y = vec2(sum[r], sum[r + 1]) * factor;
        vec2 up = GATED != 0 ? vec2(sum[r + perLane], sum[r + perLane + 1]) * factor : vec2(0.0);
        finish(t, base + uint(r / 2) * 2u * lanes, y, up);
    }
}
