// Packed weights, `codes` as uvec4 [K / CHUNK][rows][PARTS]: a chunk holds CHUNK weights of one row along the reduction,
// and neighbouring rows are neighbours in memory, so lanes that own neighbouring rows read neighbouring words.
// WEIGHT selects the format:
//   E0M4_AFFINE     32 four-bit codes; scale word = halves (step d, minimum m);        w = d * q + m
//   E0M4_SYMMETRIC  32 four-bit codes; scale halves d, two rows to a word;              w = d * (q - 8)
//   INT8            16 signed bytes;   scale halves d, two rows to a word;              w = d * q
//   INT8_F32        16 signed bytes;   scale float d, one per chunk of 16;              w = d * q
//   E0M4_F32        32 four-bit codes; scale words = floats (d, m), rows side by side;  w = d * q + m
//   FLOAT16         8 halves; no scales
//   FLOAT32         8 floats, two uvec4; no scales
// Nibble i < 4 of a word is weight 2i, nibble 4 + i is weight 2i + 1: one mask picks a pair of neighbours.
#define E0M4_AFFINE 0
#define E0M4_SYMMETRIC 1
#define INT8 2
#define INT8_F32 3
#define E0M4_F32 4
#define FLOAT16 5
#define FLOAT32 6

#define IS_E0M4 (WEIGHT == E0M4_AFFINE || WEIGHT == E0M4_SYMMETRIC || WEIGHT == E0M4_F32)
#if IS_E0M4
#define CHUNK 32
#elif WEIGHT == INT8 || WEIGHT == INT8_F32
#define CHUNK 16
#else
#define CHUNK 8
#endif
#define EIGHTS (CHUNK / 8)
#if WEIGHT == FLOAT32
#define PARTS 2
#else
#define PARTS 1
#endif
struct Chunk { uvec4 part[PARTS]; };

Chunk chunkOf(uint chunk, uint row, uint rows) {
    Chunk c;
    [[unroll]] for (int p = 0; p < PARTS; ++p) c.part[p] = codes(PARTS * (chunk * rows + row) + p);
    return c;
}

// The step and the offset of `row` in chunk `chunk`; `chunksPerGroup` chunks share one scale.
vec2 scaleOf(uint chunk, uint row, uint rows, uint chunksPerGroup) {
    uint at = (chunk / chunksPerGroup) * rows + row;
#if WEIGHT == E0M4_AFFINE
    return unpackHalf2x16(scales(at));
#elif WEIGHT == E0M4_SYMMETRIC
    vec2 pair = unpackHalf2x16(scales(at >> 1));
    float d = (at & 1u) == 0u ? pair.x : pair.y;
    return vec2(d, -8.0 * d);
#elif WEIGHT == INT8
    vec2 pair = unpackHalf2x16(scales(at >> 1));
    return vec2((at & 1u) == 0u ? pair.x : pair.y, 0.0);
#elif WEIGHT == INT8_F32
    return vec2(uintBitsToFloat(scales(at)), 0.0);
#elif WEIGHT == E0M4_F32
    return uintBitsToFloat(uvec2(scales(2u * at), scales(2u * at + 1u)));
#else
    return vec2(1.0, 0.0);
#endif
}

#if IS_E0M4
// E0M4: the nibble becomes the top mantissa bits of a float in [1, 2), h = 1 + q / 16. With s = 16 d, w = s h + (m - s).
vec2 e0m4Pair(uint word, int i) {
    return uintBitsToFloat(uvec2(((word >> (4 * i)) & 15u) << 19, ((word >> (4 * i + 16)) & 15u) << 19) | 0x3F800000u);
}
#ifdef INT4
#define SCALE_TO_CODE(s) stepAndZero(s)
#else
#define SCALE_TO_CODE(s) vec2(16.0 * (s).x, (s).y - 16.0 * (s).x)
#endif
#else
#define SCALE_TO_CODE(s) (s)
#endif

// A component by an index that need not be a constant.
uint pick(uvec4 v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// Weights 2i and 2i + 1 of eighth `e` of a chunk as raw codes c; the weight is code.x * c + code.y.
vec2 codePair(Chunk chunk, int e, int i) {
#if IS_E0M4
    return e0m4Pair(pick(chunk.part[0], e), i);
#elif CHUNK == 16
    int word = int(pick(chunk.part[0], 2 * e + (i >> 1)));
    int base = (i & 1) * 16;
    return vec2(float(bitfieldExtract(word, base, 8)), float(bitfieldExtract(word, base + 8, 8)));
#elif WEIGHT == FLOAT16
    return unpackHalf2x16(chunk.part[0][i]);
#else
    return uintBitsToFloat(uvec2(chunk.part[i >> 1][2 * (i & 1)], chunk.part[i >> 1][2 * (i & 1) + 1]));
#endif
}

// What a sum over a chunk takes in its inner loop, and how the sum is finished. `scale` comes from SCALE_TO_CODE.
// INT4 (built for tlite-vk ablate only) unpacks as 4-bit kernels usually do: the nibble to an integer, that to a float,
// minus the zero point, times the step, for each weight. Otherwise scale and offset stay out of the inner loop:
// sum(w x) = s sum(c x) + b sum(x).
#ifdef INT4
// (step, zero point) of step and minimum. A group of step 0 holds one value, which a step of 2^-23 of it keeps.
vec2 stepAndZero(vec2 s) {
#if WEIGHT == E0M4_SYMMETRIC
    return vec2(s.x, 8.0);
#else
    float d = s.x != 0.0 ? s.x : s.y * 1.1920929e-7;
    return vec2(d, d != 0.0 ? -s.y / d : 0.0);
#endif
}

ivec2 nibblePair(uint word, int i) { return ivec2((word >> (4 * i)) & 15u, (word >> (4 * i + 16)) & 15u); }

vec2 weightPair(Chunk chunk, int e, int i, vec2 scale) {
    return (vec2(nibblePair(pick(chunk.part[0], e), i)) - scale.y) * scale.x;
}
#define INNER_PAIR(chunk, e, i, scale) weightPair(chunk, e, i, scale)
#define FINISHED_SUM(scale, part, total) (part)
#else
vec2 weightPair(Chunk chunk, int e, int i, vec2 scale) { return codePair(chunk, e, i) * scale.x + scale.y; }
#define INNER_PAIR(chunk, e, i, scale) codePair(chunk, e, i)
#define FINISHED_SUM(scale, part, total) ((scale).x * (part) + (scale).y * (total))
#endif
