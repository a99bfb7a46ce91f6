#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
// Matrix-vector product with packed weights in half arithmetic, for GPUs that have it. A workgroup is local_size_x lanes
// of ROWS rows times local_size_y slices of the reduction. The row of x is normalized, rounded to halves and kept in
// shared memory, SEGMENT columns at a time; each slice has the codes of AHEAD chunks under way meanwhile. Codes are
// centred, c = (q - 8) / 8, so that no large mean has to cancel; halves add up over eight products, floats over the rest.
// What memory has to bring is asked for before it is needed: gains with the inputs, the residual before the products.
// Right at any subgroup size. Grid: ceil(outputs / (lanes * ROWS)) x tokens, half of ROWS where gated.
layout(local_size_x_id = 0, local_size_y_id = 11) in;
#extension GL_KHR_shader_subgroup_arithmetic : require
#include "linear.glsl"
layout(constant_id = 12) const int SUM_PAIRS = 1;   // lanes * slices * ROWS / 2
layout(constant_id = 13) const int SEGMENT = 4096;  // a multiple of 32
layout(constant_id = 14) const int AHEAD = 2;
layout(constant_id = 15) const int THREADS = 256;   // lanes * slices
layout(constant_id = 16) const int BATCH = 2;       // eighths of x that an invocation has under way
#include "half_codes.glsl"

shared uvec4 inputs[SEGMENT / 8];
shared float eightSums[HAS_OFFSET != 0 ? SEGMENT / 8 : 1];
shared vec2 sums[SUM_PAIRS];
shared float squaresOf[NORM != 0 ? THREADS : 1];  // by subgroup

float x[BATCH][8], gain[NORM != 0 ? BATCH : 1][8];  // eighths of the row on their way into shared memory

// Eighths first + thread, first + thread + THREADS, ... of row t; past the end the last one again.
void fetchInputs(uint t, uint first, uint thread) {
    uint eights = push.columns / 8u;
    [[unroll]] for (int b = 0; b < BATCH; ++b) {
        uint i = min(first + thread + uint(b * THREADS), eights - 1u);
        loadEight(t * eights + i, x[b]);
        if (NORM == 0) continue;
        vec4 low = uintBitsToFloat(normScale(2u * i)), high = uintBitsToFloat(normScale(2u * i + 1u));
        [[unroll]] for (int j = 0; j < 4; ++j) {
            gain[b][j] = low[j];
            gain[b][4 + j] = high[j];
        }
    }
}

// 1 / rms of row t, the same for every invocation. Leaves the last batch in x.
float normFactor(uint t, uint thread) {
    float squares = 0.0;
    for (uint first = 0u; first < push.columns / 8u; first += uint(BATCH * THREADS)) {
        fetchInputs(t, first, thread);
        [[unroll]] for (int b = 0; b < BATCH; ++b) {
            float sum = 0.0;
            [[unroll]] for (int j = 0; j < 8; ++j) sum = fma(x[b][j], x[b][j], sum);
            if (first + thread + uint(b * THREADS) < push.columns / 8u) squares += sum;
        }
    }
    squares = subgroupAdd(squares);
    if (subgroupElect()) squaresOf[gl_SubgroupID] = squares;
    barrier();
    float total = 0.0;
    for (uint i = 0u; i < gl_NumSubgroups; ++i) total += squaresOf[i];
    return inversesqrt(total / float(push.columns) + push.epsilon);
}

// Eighths first ... last - 1 of row t into shared memory; `held`: they are in x already.
void stage(uint t, uint first, uint last, uint thread, float factor, bool held) {
    for (uint start = first; start < last; start += uint(BATCH * THREADS)) {
        if (!held) fetchInputs(t, start, thread);
        [[unroll]] for (int b = 0; b < BATCH; ++b) {
            uint i = start + thread + uint(b * THREADS);
            if (i >= last) continue;
            if (NORM != 0)
                [[unroll]] for (int j = 0; j < 8; ++j) x[b][j] *= gain[b][j] * factor;
            inputs[i - first] = packInputs(x[b]);
            float sum = 0.0;
            [[unroll]] for (int j = 0; j < 8; ++j) sum += x[b][j];
            if (HAS_OFFSET != 0) eightSums[i - first] = sum;
        }
    }
}

// Adds chunk `at` of the segment to the sums of its rows.
void multiply(uint at, uvec4 code[ROWS], vec2 scale[ROWS], inout float sum[ROWS]) {
    float part[ROWS], total = 0.0;
    [[unroll]] for (int r = 0; r < ROWS; ++r) part[r] = 0.0;
    [[unroll]] for (int e = 0; e < EIGHTS; ++e) {
        uvec4 words = inputs[at * uint(EIGHTS) + uint(e)];
        if (HAS_OFFSET != 0) total += eightSums[at * uint(EIGHTS) + uint(e)];
        f16vec2 h[4];
        [[unroll]] for (int i = 0; i < 4; ++i) h[i] = unpackFloat2x16(words[i]);
        [[unroll]] for (int r = 0; r < ROWS; ++r) {
            f16vec2 w[4];
            innerWeights(code[r], e, scale[r], w);
            f16vec2 products = fma(w[3], h[3], fma(w[2], h[2], fma(w[1], h[1], w[0] * h[0])));
            part[r] += float(products.x) + float(products.y);
        }
    }
    [[unroll]] for (int r = 0; r < ROWS; ++r) {
        sum[r] = STEP_INSIDE ? sum[r] + part[r] : fma(scale[r].x, part[r], sum[r]);
        if (HAS_OFFSET != 0) sum[r] = fma(scale[r].y, total, sum[r]);
    }
}

void main() {
    const int perLane = GATED != 0 ? ROWS / 2 : ROWS;
    uint lanes = gl_WorkGroupSize.x, lane = gl_LocalInvocationID.x;
    uint slices = gl_WorkGroupSize.y, slice = gl_LocalInvocationID.y;
    uint thread = slice * lanes + lane, t = gl_WorkGroupID.y;
    uint base = gl_WorkGroupID.x * lanes * uint(perLane);
    uint row[ROWS];
    float sum[ROWS];
    [[unroll]] for (int r = 0; r < ROWS; ++r) {
        uint n = min(base + uint(r % perLane) * lanes + lane, push.outputs - 1u);
        row[r] = n + (r >= perLane ? push.outputs : 0u);
        sum[r] = 0.0;
    }

    const uint pairs = lanes / 2u;
    vec2 before = residualPair(t, base + 2u * thread);  // of the outputs that this invocation finishes

    float factor = 1.0;
    for (uint first = 0u; first < push.columns; first += uint(SEGMENT)) {
        uint origin = first / uint(CHUNK), end = min(first + uint(SEGMENT), push.columns) / uint(CHUNK);
        uvec4 code[AHEAD][ROWS];
        vec2 scale[AHEAD][ROWS];
        [[unroll]] for (int a = 0; a < AHEAD; ++a) {
            uint c = min(origin + slice + uint(a) * slices, end - 1u);
            [[unroll]] for (int r = 0; r < ROWS; ++r) {
                code[a][r] = codes(c * push.rows + row[r]);
                scale[a][r] = SCALE_TO_CENTRED(scaleOf(c, row[r], push.rows, uint(CHUNKS_PER_GROUP)));
            }
        }
        if (NORM != 0 && first == 0u) factor = normFactor(t, thread);
        if (first > 0u) barrier();
        bool held = NORM != 0 && push.columns <= uint(min(SEGMENT, 8 * BATCH * THREADS));
        stage(t, first / 8u, min(first + uint(SEGMENT), push.columns) / 8u, thread, factor, held);
        barrier();
        for (uint c = origin + slice; c < end; c += uint(AHEAD) * slices)
            [[unroll]] for (int a = 0; a < AHEAD; ++a) {
                uint here = c + uint(a) * slices, next = here + uint(AHEAD) * slices;
                if (here < end) multiply(here - origin, code[a], scale[a], sum);
                if (next < end)
                    [[unroll]] for (int r = 0; r < ROWS; ++r) {
                        code[a][r] = codes(next * push.rows + row[r]);
                        scale[a][r] = SCALE_TO_CENTRED(scaleOf(next, row[r], push.rows, uint(CHUNKS_PER_GROUP)));
                    }
            }
    }

    // The slices' sums meet in shared memory, in pairs of neighbouring outputs. [slice][row][lane]
    [[unroll]] for (int r = 0; r < ROWS; ++r) {
        uint at = (slice * uint(ROWS) + uint(r)) * lanes + lane;
        sums[at >> 1][at & 1u] = sum[r];
    }
    barrier();
    for (uint i = thread; i < uint(perLane) * pairs; i += uint(THREADS)) {
        vec2 y = vec2(0.0), up = vec2(0.0);
        for (uint s = 0u; s < slices; ++s) {
            y += sums[s * uint(ROWS) * pairs + i];
            if (GATED != 0) up += sums[(s * uint(ROWS) + uint(perLane)) * pairs + i];
        }
        if (i != thread) before = residualPair(t, base + 2u * i);
        finish(t, base + 2u * i, y, up, before);
    }
}
