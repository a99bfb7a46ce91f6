// Rotary position embedding of one pair of a head (Su et al., "RoFormer", 2021).
// The angle is (cos, sin) of position and pair; INTERLEAVED pairs neighbours, otherwise halves of the rotary part.
// rotaryTable holds (cos, sin) [positions][ROTARY / 2], and behind them, where heads are normalized first, the norm's
// scales (of queries, of keys) [HEAD_DIM].
vec2 normScale(uint d, uint positions) { return rotaryTable[positions * (uint(ROTARY) / 2u) + d]; }

uvec2 rotaryPair(uint i) {
    return INTERLEAVED != 0 ? uvec2(2u * i, 2u * i + 1u) : uvec2(i, i + uint(ROTARY) / 2u);
}

vec2 rotate(vec2 v, vec2 angle) { return vec2(v.x * angle.x - v.y * angle.y, v.x * angle.y + v.y * angle.x); }
