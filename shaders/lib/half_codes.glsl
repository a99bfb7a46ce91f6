// Packed codes as centred pairs of halves, two at a time: a nibble (or byte) lands in the mantissa of a half whose
// exponent gives it the weight 1/8 (1/128), and one exact subtraction takes the mean away.
//   four bits: c = (q - 8) / 8, w = 8 d c + (m + 8 d)          eight bits: c = q / 128, w = 128 d c
#if (WEIGHT == E0M4_AFFINE || WEIGHT == E0M4_F32) && !defined(INT4)
const int HAS_OFFSET = 1;
#else
const int HAS_OFFSET = 0;
#endif

f16vec2 halfPair(uint bits, float16_t centre) { return unpackFloat2x16(bits) - f16vec2(centre); }

#if IS_E0M4
#define SCALE_TO_CENTRED(s) vec2(8.0 * (s).x, 8.0 * (s).x + (s).y)

// Weights 2 i and 2 i + 1, i < 4, of eighth `e` of a chunk.
void centredCodes(uvec4 chunk, int e, out f16vec2 w[4]) {
    uint low = chunk[e], high = low >> 8;
    w[0] = halfPair((low & 0x000F000Fu) | 0x58005800u, float16_t(129.0));  // 128 + q / 8
    w[1] = halfPair((low & 0x00F000F0u) | 0x48004800u, float16_t(9.0));    // 8 + q / 8
    w[2] = halfPair((high & 0x000F000Fu) | 0x58005800u, float16_t(129.0));
    w[3] = halfPair((high & 0x00F000F0u) | 0x48004800u, float16_t(9.0));
}

// The same as q / 8, of which w = 8 d c + m.
void planeCodes(uvec4 chunk, int e, out f16vec2 w[4]) {
    uint low = chunk[e], high = low >> 8;
    w[0] = halfPair((low & 0x000F000Fu) | 0x58005800u, float16_t(128.0));
    w[1] = halfPair((low & 0x00F000F0u) | 0x48004800u, float16_t(8.0));
    w[2] = halfPair((high & 0x000F000Fu) | 0x58005800u, float16_t(128.0));
    w[3] = halfPair((high & 0x00F000F0u) | 0x48004800u, float16_t(8.0));
}

uvec4 packInputs(float x[8]) {
    return uvec4(packHalves(x[0], x[1]), packHalves(x[2], x[3]), packHalves(x[4], x[5]), packHalves(x[6], x[7]));
}
#elif WEIGHT == INT8
#define SCALE_TO_CENTRED(s) vec2(128.0 * (s).x, 0.0)

// Of the four bytes of a word, 0 goes with 2 and 1 with 3: so do the inputs.
void centredCodes(uvec4 chunk, int e, out f16vec2 w[4]) {
    [[unroll]] for (int i = 0; i < 2; ++i) {
        uint word = chunk[2 * e + i] ^ 0x80808080u;  // q + 128
        w[2 * i] = halfPair((word & 0x00FF00FFu) | 0x48004800u, float16_t(9.0));  // 8 + (q + 128) / 128
        w[2 * i + 1] = halfPair(((word >> 8) & 0x00FF00FFu) | 0x48004800u, float16_t(9.0));
    }
}

uvec4 packInputs(float x[8]) {
    return uvec4(packHalves(x[0], x[2]), packHalves(x[1], x[3]), packHalves(x[4], x[6]), packHalves(x[5], x[7]));
}
#endif

// What linear_half.comp multiplies, and linear_matrix.comp puts into its tiles where it dequantizes in halves.
#ifdef INT4
const bool STEP_INSIDE = true;  // see INT4 in weights.glsl
#undef SCALE_TO_CENTRED
#define SCALE_TO_CENTRED(s) stepAndZero(s)

void innerWeights(uvec4 chunk, int e, vec2 scale, out f16vec2 w[4]) {
    f16vec2 zero = f16vec2(scale.y), step_ = f16vec2(scale.x);
    [[unroll]] for (int i = 0; i < 4; ++i) w[i] = (f16vec2(nibblePair(chunk[e], i)) - zero) * step_;
}

void planeWeights(uvec4 chunk, int e, vec2 scale, out f16vec2 w[4]) { innerWeights(chunk, e, scale, w); }
#else
const bool STEP_INSIDE = false;

#if IS_E0M4 || WEIGHT == INT8
void innerWeights(uvec4 chunk, int e, vec2 scale, out f16vec2 w[4]) { centredCodes(chunk, e, w); }
#endif
#if IS_E0M4
void planeWeights(uvec4 chunk, int e, vec2 scale, out f16vec2 w[4]) {
    planeCodes(chunk, e, w);  // exact; so is the step, and one rounding is left
    [[unroll]] for (int i = 0; i < 4; ++i) w[i] = fma(w[i], f16vec2(scale.x), f16vec2(scale.y));
}
#endif
#endif

// Step and offset as linear_matrix.comp takes them: of q / 8 where it dequantizes in halves, of raw codes elsewhere.
#ifdef INT4
#define SCALE_TO_PLANE(s) stepAndZero(s)
#elif WEIGHT == E0M4_AFFINE || WEIGHT == E0M4_SYMMETRIC
#define SCALE_TO_PLANE(s) vec2(8.0 * (s).x, (s).y)
#else
#define SCALE_TO_PLANE(s) SCALE_TO_CODE(s)
#endif
