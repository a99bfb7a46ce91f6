#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
// Attention of one token, split over the cache, for GPUs: Dao et al., "Flash-Decoding for long-context inference" (2023).
// Workgroup (s, kv, z) takes the s-th share of the keys for HEADS query heads of one KV head, so keys and values are read
// once for all of them. SHARE lanes side by side hold eight elements each of a key, and of the output; the groups of lanes
// take keys in turn, each with an online softmax of its own. The workgroup of a KV head that comes last combines the
// shares: nobody waits, so no workgroup needs another to be running.
// Needs full subgroups of LANES / SUBGROUPS lanes, a multiple of SHARE. Grid: shares x KV heads x (heads per KV head / HEADS).
layout(local_size_x_id = 0) in;
#define FUSED
#include "attention.glsl"
layout(constant_id = 8) const int SUBGROUPS = 4;
layout(constant_id = 9) const int LANES = 128;   // the local size again
layout(constant_id = 10) const int SHARES = 16;  // most shares; the grid's first size
layout(constant_id = 11) const int SHARE = 8;    // HEAD_DIM / 8, rounded up to a power of two
layout(constant_id = 12) const int LEAST = 64;   // fewest keys that are worth a workgroup

layout(std430, binding = 8) coherent buffer Partial { vec2 partial[]; };  // [head][share][HEAD_DIM / 2], then (max, sum)
layout(std430, binding = 9) coherent buffer Tickets { uint tickets[]; };  // per workgroup column; 0 between dispatches

const int BATCH = 4;  // keys under way in a group of lanes
const int PAIRS = HEAD_DIM / 2;
const int WORDS = CACHE_HALF != 0 ? 1 : 2;  // uvec4 that hold eight elements
shared float query[HEADS * HEAD_DIM];
shared float newRow[2 * HEAD_DIM];  // this step's key and value
shared vec2 outputs[HEADS * SUBGROUPS * PAIRS];
shared vec2 statistics[HEADS * SUBGROUPS];  // (largest score, sum of weights)
shared float factors[HEADS * SHARES];
shared bool combining;

float q[HEADS][8], acc[HEADS][8], largest[HEADS], total[HEADS];
uvec4 kBits[BATCH * WORDS], vBits[BATCH * WORDS];

// Pair p of query head `which` of this workgroup, of the new key (HEADS) or of the new value (HEADS + 1), normalized and
// rotated where it must be.
void rotatedPair(uint which, uint firstHead, uint kvHead, uint p, uint position, out uvec2 place, out vec2 pair) {
    bool rotary = which <= uint(HEADS) && p < uint(ROTARY / 2);
    place = rotary ? rotaryPair(p) : uvec2(2u * p, 2u * p + 1u);
    uint at = push.vOffset + kvHead * uint(HEAD_DIM);
    pair = which > uint(HEADS) ? vec2(vNew[at + place.x], vNew[at + place.y])
                               : vec2(headElement(which, firstHead, kvHead, place.x), headElement(which, firstHead, kvHead, place.y));
    if (rotary) pair = rotate(pair, rotaryTable[min(position, push.positions - 1u) * uint(ROTARY / 2) + p]);
}

// The queries of this workgroup into shared memory, and the new row where `last`.
void takeRows(uint lane, uint firstHead, uint kvHead, uint position, bool last) {
    measureHeads(firstHead, kvHead);
    uint tasks = uint((last ? HEADS + 2 : HEADS) * PAIRS);
    for (uint i = lane; i < tasks; i += uint(LANES)) {
        uint h = i / uint(PAIRS), p = i % uint(PAIRS);
        uvec2 place;
        vec2 pair;
        rotatedPair(h, firstHead, kvHead, p, position, place, pair);
        if (h < uint(HEADS)) {
            query[h * uint(HEAD_DIM) + place.x] = pair.x * push.scale;
            query[h * uint(HEAD_DIM) + place.y] = pair.y * push.scale;
        } else {
            uint to = h == uint(HEADS) ? 0u : uint(HEAD_DIM);
            newRow[to + place.x] = pair.x;
            newRow[to + place.y] = pair.y;
        }
    }
}

// Eight elements of the new row as the ring holds them.
void newBits(uint at, out uvec4 bits[WORDS]) {
    if (CACHE_HALF != 0) {
        [[unroll]] for (int i = 0; i < 4; ++i) bits[0][i] = packHalves(newRow[at + uint(2 * i)], newRow[at + uint(2 * i + 1)]);
    } else {
        [[unroll]] for (int i = 0; i < 8; ++i) bits[(i >> 2) * (WORDS - 1)][i & 3] = floatBitsToUint(newRow[at + uint(i)]);
    }
}

void unpackBits(uvec4 low, uvec4 high, out float v[8]) {
    if (CACHE_HALF != 0) unpackEight(low, v);
    else unpackFloats(low, high, v);
}

// Takes `count` fetched keys into the group's running softmax, at least one.
void attend(uint count) {
    float score[BATCH][HEADS], element[8];
    [[unroll]] for (int b = 0; b < BATCH; ++b) {
        unpackBits(kBits[b * WORDS], kBits[b * WORDS + WORDS - 1], element);
        [[unroll]] for (int h = 0; h < HEADS; ++h) {
            score[b][h] = 0.0;
            [[unroll]] for (int i = 0; i < 8; ++i) score[b][h] = fma(q[h][i], element[i], score[b][h]);
            [[unroll]] for (uint o = 1u; o < uint(SHARE); o *= 2u) score[b][h] += subgroupShuffleXor(score[b][h], o);
            score[b][h] = uint(b) < count ? capped(score[b][h]) : NEVER;
        }
    }
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        float top = largest[h];
        [[unroll]] for (int b = 0; b < BATCH; ++b) top = max(top, score[b][h]);
        float correction = exp(largest[h] - top);
        largest[h] = top;
        total[h] *= correction;
        [[unroll]] for (int i = 0; i < 8; ++i) acc[h][i] *= correction;
        [[unroll]] for (int b = 0; b < BATCH; ++b) {
            score[b][h] = exp(score[b][h] - top);
            total[h] += score[b][h];
        }
    }
    [[unroll]] for (int b = 0; b < BATCH; ++b) {
        unpackBits(vBits[b * WORDS], vBits[b * WORDS + WORDS - 1], element);
        [[unroll]] for (int h = 0; h < HEADS; ++h)
            [[unroll]] for (int i = 0; i < 8; ++i) acc[h][i] = fma(score[b][h], element[i], acc[h][i]);
    }
}

// The workgroup's share from those of its groups of lanes: outputs[h][0] and statistics[h][0] of every head.
void combineGroups(uint lane, uint e) {
    uint subgroup = gl_SubgroupID, width = uint(LANES / SUBGROUPS);
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        for (uint o = uint(SHARE); o < width; o *= 2u) {
            float other = subgroupShuffleXor(largest[h], o), top = max(largest[h], other);
            float mine = exp(largest[h] - top), theirs = exp(other - top);
            total[h] = total[h] * mine + subgroupShuffleXor(total[h], o) * theirs;
            largest[h] = top;
            [[unroll]] for (int i = 0; i < 8; ++i) acc[h][i] = acc[h][i] * mine + subgroupShuffleXor(acc[h][i], o) * theirs;
        }
        if (gl_SubgroupInvocationID < uint(HEAD_DIM / 8)) {
            uint at = (uint(h * SUBGROUPS) + subgroup) * uint(PAIRS) + 4u * e;
            [[unroll]] for (uint i = 0u; i < 4u; ++i) outputs[at + i] = vec2(acc[h][2u * i], acc[h][2u * i + 1u]);
        }
        if (gl_SubgroupInvocationID == 0u) statistics[uint(h * SUBGROUPS) + subgroup] = vec2(largest[h], total[h]);
    }
    barrier();
}

// (largest score, sum of weights) over the subgroups, for head h of this workgroup.
vec2 merged(uint h) {
    vec2 all = statistics[h * uint(SUBGROUPS)];
    [[unroll]] for (int s = 1; s < SUBGROUPS; ++s) all.x = max(all.x, statistics[h * uint(SUBGROUPS) + uint(s)].x);
    all.y = 0.0;
    [[unroll]] for (int s = 0; s < SUBGROUPS; ++s) {
        vec2 part = statistics[h * uint(SUBGROUPS) + uint(s)];
        all.y += part.y * exp(part.x - all.x);
    }
    return all;
}

vec2 mergedPair(uint h, uint pair, float top) {
    vec2 sum = vec2(0.0);
    [[unroll]] for (int s = 0; s < SUBGROUPS; ++s) {
        uint at = h * uint(SUBGROUPS) + uint(s);
        sum += outputs[at * uint(PAIRS) + pair] * exp(statistics[at].x - top);
    }
    return sum;
}

// Starts loading the keys and values at `key_`, + groups, ...; past the end the last one again.
#define FETCH(key_)                                                                                  \
    [[unroll]] for (int b = 0; b < BATCH; ++b) {                                                     \
        uint slot = slots + min((key_) + uint(b) * groups, end - 1u) - begin;                        \
        slot -= slot < push.capacity ? 0u : push.capacity; /* a share passes the end of the ring once at most */ \
        uint at = ((slot * push.kvHeads + kvHead) * uint(HEAD_DIM / 8) + own) * uint(WORDS);         \
        [[unroll]] for (int i = 0; i < WORDS; ++i) {                                                 \
            kBits[b * WORDS + i] = kWords(at + uint(i));                                             \
            vBits[b * WORDS + i] = vWords(at + uint(i));                                             \
        }                                                                                            \
    }

void main() {
    uint lane = gl_SubgroupID * gl_SubgroupSize + gl_SubgroupInvocationID;
    uint kvHead = gl_WorkGroupID.y, share = gl_WorkGroupID.x;
    uint firstHead = kvHead * (push.heads / push.kvHeads) + gl_WorkGroupID.z * uint(HEADS);
    uint position = stepParams.position, first = firstKey(position), keys = position - first + 1u;
    uint each = max(uint(LEAST), (keys + uint(SHARES) - 1u) / uint(SHARES)), live = (keys + each - 1u) / each;
    if (share >= live) return;
    bool last = share == live - 1u;
    uint begin = first + share * each, end = min(begin + each, position + 1u), slots = begin % push.capacity;
    const uint groups = uint(LANES / SHARE);
    uint group = lane / uint(SHARE), e = lane % uint(SHARE);
    bool holds = e < uint(HEAD_DIM / 8);
    uint own = holds ? e : 0u;

    FETCH(begin + group)  // under way while the queries are rotated
    takeRows(lane, firstHead, kvHead, position, last);
    barrier();
    [[unroll]] for (int h = 0; h < HEADS; ++h) {
        largest[h] = NEVER;
        total[h] = 0.0;
        [[unroll]] for (int i = 0; i < 8; ++i) {
            q[h][i] = holds ? query[uint(h * HEAD_DIM) + 8u * own + uint(i)] : 0.0;
            acc[h][i] = 0.0;
        }
    }
    for (uint key = begin + group; key < end; key += uint(BATCH) * groups) {
        if (last)  // the last of the keys is not in the ring yet
            [[unroll]] for (int b = 0; b < BATCH; ++b)
                if (key + uint(b) * groups >= position) {
                    uvec4 bits[WORDS];
                    uint at = ((position % push.capacity) * push.kvHeads + kvHead) * uint(HEAD_DIM / 8) + own;
                    bool writes = holds && gl_WorkGroupID.z == 0u;
                    newBits(8u * own, bits);
                    [[unroll]] for (int i = 0; i < WORDS; ++i) {
                        kBits[b * WORDS + i] = bits[i];
                        if (writes) kCache[at * uint(WORDS) + uint(i)] = bits[i];
                    }
                    newBits(uint(HEAD_DIM) + 8u * own, bits);
                    [[unroll]] for (int i = 0; i < WORDS; ++i) {
                        vBits[b * WORDS + i] = bits[i];
                        if (writes) vCache[at * uint(WORDS) + uint(i)] = bits[i];
                    }
                }
        attend(min(uint(BATCH), (end - key + groups - 1u) / groups));
        if (key + uint(BATCH) * groups < end) FETCH(key + uint(BATCH) * groups)
    }
    combineGroups(lane, own);

    if (live == 1u) {
        for (uint i = lane; i < uint(HEADS * PAIRS); i += uint(LANES)) {
            uint h = i / uint(PAIRS), pair = i % uint(PAIRS);
            vec2 all = merged(h), y = mergedPair(h, pair, all.x) / all.y;
            storePair(0u, firstHead + h, 2u * pair, y.x, y.y);
        }
        return;
    }
    uint statisticsAt = push.heads * uint(SHARES * PAIRS);
    for (uint i = lane; i < uint(HEADS * PAIRS); i += uint(LANES)) {
        uint h = i / uint(PAIRS), pair = i % uint(PAIRS), at = (firstHead + h) * uint(SHARES) + share;
        vec2 all = merged(h);
        partial[at * uint(PAIRS) + pair] = mergedPair(h, pair, all.x);
        if (pair == 0u) partial[statisticsAt + at] = all;
    }
    memoryBarrierBuffer();
    barrier();
    uint ticket = kvHead * gl_NumWorkGroups.z + gl_WorkGroupID.z;
    if (lane == 0u) combining = atomicAdd(tickets[ticket], 1u) == live - 1u;
    barrier();
    if (!combining) return;
    memoryBarrierBuffer();

    // The last one: every share is there.
    if (lane == 0u) tickets[ticket] = 0u;
    for (uint h = lane; h < uint(HEADS); h += uint(LANES)) {
        uint at = statisticsAt + (firstHead + h) * uint(SHARES);
        float top = NEVER, sum = 0.0;
        for (uint s = 0u; s < live; ++s) top = max(top, partial[at + s].x);
        for (uint s = 0u; s < live; ++s) {
            vec2 part = partial[at + s];
            factors[h * uint(SHARES) + s] = exp(part.x - top);
            sum += part.y * exp(part.x - top);
        }
        for (uint s = 0u; s < live; ++s) factors[h * uint(SHARES) + s] /= sum;
    }
    barrier();
    for (uint i = lane; i < uint(HEADS * PAIRS); i += uint(LANES)) {
        uint h = i / uint(PAIRS), pair = i % uint(PAIRS), at = (firstHead + h) * uint(SHARES);
        vec2 y = vec2(0.0);
        for (uint s = 0u; s < live; ++s) y += partial[(at + s) * uint(PAIRS) + pair] * factors[h * uint(SHARES) + s];
        storePair(0u, firstHead + h, 2u * pair, y.x, y.y);
    }
}
