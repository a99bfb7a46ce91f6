// What the two matrix-product shaders share: operands, specialization constants, the epilogue.
//   y[t, n] = activation( sum_k w[n, k] * x'[t, k] + bias[n] ) + residual[t, n]
//   x' = x, or with NORM the RMS-normalized x times norm_scale (its factor 1 / rms is applied to the sum)
// Unused optional operands are bound to something readable; their flag keeps them unread.
#include "source.glsl"

layout(constant_id = 1) const int ROWS = 8;          // output rows per invocation; even; a multiple of 4 when gated
layout(constant_id = 2) const int TOKENS = 1;        // tokens per invocation
layout(constant_id = 3) const int X_HALF = 0;        // x holds halves instead of floats
layout(constant_id = 4) const int Y_HALF = 0;        // y holds halves instead of floats
layout(constant_id = 5) const int HAS_BIAS = 0;
layout(constant_id = 6) const int HAS_RESIDUAL = 0;
layout(constant_id = 7) const int NORM = 0;
layout(constant_id = 8) const int ACTIVATION = 0;    // see activate(); GATED: the weight has gate rows, then up rows
layout(constant_id = 9) const int GATED = 0;
layout(constant_id = 10) const int CHUNKS_PER_GROUP = 1;

SOURCE4(0, codes)
SOURCE1(1, scales)
SOURCE4(2, xs)
layout(std430, binding = 3) writeonly buffer Result { uint result[]; };
layout(std430, binding = 4) readonly buffer Bias { float bias[]; };
layout(std430, binding = 5) readonly buffer Residual { float residual[]; };
SOURCE4(6, normScale)

layout(push_constant) uniform Push {
    uint columns;    // K, a multiple of CHUNK and of 8
    uint rows;       // rows of this block of the weight: outputs, or twice that when gated
    uint outputs;    // outputs of this block
    uint tokens;     // T
    uint first;      // first output column of this block
    uint stride;     // columns of y: N
    float epsilon;   // of the norm
} push;

#include "weights.glsl"

// Eight neighbouring values of x; `at` counts eights.
void loadEight(uint at, out float v[8]) {
    if (X_HALF != 0) {
        uvec4 words = xs(at);
        [[unroll]] for (int i = 0; i < 4; ++i) {
            vec2 pair = unpackHalf2x16(words[i]);
            v[2 * i] = pair.x;
            v[2 * i + 1] = pair.y;
        }
    } else {
        vec4 low = uintBitsToFloat(xs(2u * at)), high = uintBitsToFloat(xs(2u * at + 1u));
        [[unroll]] for (int i = 0; i < 4; ++i) {
            v[i] = low[i];
            v[4 + i] = high[i];
        }
    }
}

// Multiplies eight values by the norm's scale (always floats); returns the sum of their squares before that.
float scaleByNorm(uint at, inout float v[8]) {
    float squares = 0.0;
    [[unroll]] for (int i = 0; i < 8; ++i) squares = fma(v[i], v[i], squares);
    vec4 low = uintBitsToFloat(normScale(2u * at)), high = uintBitsToFloat(normScale(2u * at + 1u));
    [[unroll]] for (int i = 0; i < 4; ++i) {
        v[i] *= low[i];
        v[4 + i] *= high[i];
    }
    return squares;
}

float erfApproximation(float x) {  // Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7
    float t = 1.0 / (1.0 + 0.3275911 * abs(x));
    float poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - poly * exp(-x * x));
}

float activate(float x) {
    switch (ACTIVATION) {
    case 1: return x / (1.0 + exp(-x));                                             // SiLU
    case 2: return 0.5 * x * (1.0 + erfApproximation(x * 0.70710678));              // GELU
    case 3: return x / (1.0 + exp(-1.5957691216 * (x + 0.044715 * x * x * x)));     // GELU, tanh form
    case 4: return max(x, 0.0);                                                     // ReLU
    default: return x;
    }
}

// Rows come in neighbouring pairs, so that two halves of a result share a word: row `r` of the invocation whose first
// output is `base`. Gated weights have their up rows `outputs` further on. Rows past the end repeat the last one.
uint weightRow(uint base, int r) {
    int perLane = GATED != 0 ? ROWS / 2 : ROWS;
    int own = r % perLane;
    uint n = base + uint(own / 2) * 2u * gl_WorkGroupSize.x + uint(own & 1);
    return min(n, push.outputs - 1u) + (r >= perLane ? push.outputs : 0u);
}

// What is added to outputs n and n + 1 of token t; an odd last column has no neighbour.
vec2 residualPair(uint t, uint n) {
    if (HAS_RESIDUAL == 0 || n >= push.outputs || t >= push.tokens) return vec2(0.0);
    uint at = t * push.stride + push.first + n;
    return vec2(residual[at], n + 1u < push.outputs ? residual[at + 1u] : 0.0);
}

// Outputs n and n + 1 of token t from their sums and the residual.
void finish(uint t, uint n, vec2 y, vec2 up, vec2 before) {
    if (n >= push.outputs || t >= push.tokens) return;
    bool both = n + 1u < push.outputs;
    uint column = push.first + n, next = both ? column + 1u : column;
    if (HAS_BIAS != 0) {
        y += vec2(bias[column], bias[next]);
        if (GATED != 0) up += vec2(bias[push.stride + column], bias[push.stride + next]);
    }
    y = vec2(activate(y.x), activate(y.y));
    if (GATED != 0) y *= up;
    y += before;
    uint at = t * push.stride + column;
    if (Y_HALF != 0) {
        result[at >> 1] = packHalves(y.x, y.y);
    } else {
        result[at] = floatBitsToUint(y.x);
        if (both) result[at + 1u] = floatBitsToUint(y.y);
    }
}

void finish(uint t, uint n, vec2 y, vec2 up) { finish(t, n, y, up, residualPair(t, n)); }
