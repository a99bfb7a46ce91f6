#version 450
#extension GL_GOOGLE_include_directive : require
// Draws the next token from logits [V], V < 2^24: repetition penalty, top-k, top-p, then temperature, as the settings
// say. Tokens have an order: the larger logit first, of equals the smaller id. Each filter keeps its first tokens: k of
// them, or the fewest whose mass reaches p. Five phases, a dispatch each, over slices of V; what a phase finds is put
// together by the workgroup that ends last, so that nobody waits:
//   LARGEST  penalize what was seen, in place; the largest logit; clear the scratch
//   COUNT    how many tokens, and how much mass, lie how far below the largest: in which bin is the k-th token?
//   TOP_K    the k-th token among those of its bin, by the digits of their order; in which bin does the mass reach p?
//   TOP_P    the same for the token that reaches p
//   DRAW     the token at a random point of the mass of all that is left, in the order of ids; pass it on as argmax.comp does
// Phases of a filter that is off do nothing. All sums are integers: how many invocations share the work changes nothing.
layout(local_size_x_id = 0) in;
layout(std430, binding = 0) buffer Logits { uint logits[]; };  // bits of floats
layout(std430, binding = 1) writeonly buffer Ids { uint ids[]; };
layout(std430, binding = 2) writeonly buffer Picked { uint picked[]; };
layout(std430, binding = 3) buffer Step { uint position; uint count; uint pickedCount; uint reserved; } stepParams;
layout(std430, binding = 4) buffer Settings {
    uint topK;             // 0: all
    uint topP;             // in 2^-32; 0: all
    float scale;           // log2(e) / temperature
    float penalty;         // 1: off
    float inversePenalty;
    uint reserved;
    uvec2 seed;
    uint seen[];           // a bit per token
} settings;

const uint BINS = 512u, MOST_GROUPS = 64u;
layout(std430, binding = 5) coherent buffer Scratch {
    uint found[MOST_GROUPS];   // the largest logit of each slice
    uint lastKey, lastId;      // the last token that the filters keep
    uint bin;                  // whose tokens are looked at one by one
    uint listed;
    uvec2 rest;                // what those tokens must reach: a count, or a mass
    uint bins[3u * BINS];      // tokens, low and high words of the mass
    uvec2 masses[MOST_GROUPS]; // what is left of each slice
    uint list[];
} scratch;
layout(std430, binding = 6) coherent buffer Tickets { uint tickets[]; };  // 0 between dispatches
layout(push_constant) uniform Push { uint rows; uint room; uint phase; } push;

const uint LARGEST = 0u, COUNT = 1u, TOP_K = 2u, TOP_P = 3u, DRAW = 4u;
const uint NOT_A_TOKEN = 0xFFFFFFFFu, NO_BIN = 0xFFFFFFFFu;
const float LOG2_E = 1.44269504;

#include "fixed_point.glsl"
#include "philox.glsl"
#include "float_order.glsl"
#include "mass_bins.glsl"

shared uint largestKey, differs[2], chosen, range[2];
shared bool last;

uint sliceSize() { return (push.rows + gl_NumWorkGroups.x - 1u) / gl_NumWorkGroups.x; }
uint sliceBegin(uint group) { return min(group * sliceSize(), push.rows); }
bool countFilter() { return settings.topK != 0u && settings.topK < push.rows; }
bool massFilter() { return settings.topP != 0u; }

// Larger where a token comes earlier: (~id, key).
uvec2 orderOf(uint id) { return uvec2(~id, keyOf(logits[id])); }
// The order of the last token that the filters keep.
uvec2 lastKept() { return uvec2(~scratch.lastId, scratch.lastKey); }

uvec2 massAt(uint id, float top, float scale) {
    precise float below = uintBitsToFloat(logits[id]) - top;
    precise float y = below * scale;
    return massOf(y);
}
uvec2 keptMass(uint id, float top, uvec2 kept) {
    return less(orderOf(id), kept) ? uvec2(0u) : massAt(id, top, settings.scale);
}
uint binOf(uint id, float top) { return uint(min((top - uintBitsToFloat(logits[id])) * 16.0, float(BINS - 1u))); }

// The largest key of all slices; LARGEST has found them.
uint largest() {
    if (lane() == 0u) largestKey = 0u;
    barrier();
    for (uint i = lane(); i < gl_NumWorkGroups.x; i += lanes()) atomicMax(largestKey, scratch.found[i]);
    barrier();
    return largestKey;
}

// Whether this workgroup is the last to come here; it then sees what the others wrote.
bool comesLast() {
    memoryBarrierBuffer();
    barrier();
    if (lane() == 0u) {
        last = atomicAdd(tickets[0], 1u) == gl_NumWorkGroups.x - 1u;
        if (last) tickets[0] = 0u;
    }
    barrier();
    if (last) memoryBarrierBuffer();
    return last;
}

// Which bin's tokens the next phase looks at, from the bins in shared memory.
void chooseBin(bool byCount) {
    sumParts(BINS);
    if (lane() != 0u) return;
    uvec2 goal = uvec2(settings.topK, 0u);
    if (!byCount) {
        uvec2 total = uvec2(0u);
        for (uint p = 0u; p < PARTS; ++p) total = add(total, partMasses[p]);
        goal = shareOf(total, settings.topP);
    }
    locate(BINS, byCount, goal);
    scratch.bin = foundBin;
    scratch.rest = rest;
    scratch.listed = 0u;
}

void findLargest() {
    uint group = gl_WorkGroupID.x;
    if (lane() == 0u) largestKey = 0u;
    barrier();
    uint best = 0u, end = sliceBegin(group + 1u);
    for (uint i = sliceBegin(group) + lane(); i < end; i += lanes()) {
        uint bits = logits[i];
        if (settings.penalty != 1.0 && (settings.seen[i / 32u] >> (i % 32u) & 1u) != 0u) {
            precise float value = uintBitsToFloat(bits);
            value = value * (value > 0.0 ? settings.inversePenalty : settings.penalty);
            bits = floatBitsToUint(value);
            logits[i] = bits;
        }
        best = max(best, keyOf(bits));
    }
    atomicMax(largestKey, best);
    barrier();
    if (lane() == 0u) scratch.found[group] = largestKey;
    uint invocations = gl_NumWorkGroups.x * lanes(), first = gl_GlobalInvocationID.x;
    for (uint i = first; i < 3u * BINS; i += invocations) scratch.bins[i] = 0u;
    if (first == 0u) {
        scratch.lastKey = 0u;
        scratch.lastId = NOT_A_TOKEN;
        scratch.bin = NO_BIN;
    }
}

void countTokens(float top) {
    clearBins(BINS);
    uint end = sliceBegin(gl_WorkGroupID.x + 1u);
    for (uint i = sliceBegin(gl_WorkGroupID.x) + lane(); i < end; i += lanes())
        addToBin(binOf(i, top), 1u, massAt(i, top, LOG2_E));
    barrier();
    for (uint b = lane(); b < BINS; b += lanes())
        if (counts[b] != 0u) {
            atomicAdd(scratch.bins[b], counts[b]);
            uint old = atomicAdd(scratch.bins[BINS + b], lows[b]);
            atomicAdd(scratch.bins[2u * BINS + b], highs[b] + uint(old + lows[b] < old));
        }
    if (!comesLast()) return;
    for (uint b = lane(); b < BINS; b += lanes()) {
        counts[b] = scratch.bins[b];
        lows[b] = scratch.bins[BINS + b];
        highs[b] = scratch.bins[2u * BINS + b];
    }
    barrier();
    chooseBin(countFilter());
}

// Which bits are not the same in the order of all listed tokens: differs.
void compareListed(uint listed, uvec2 first) {
    if (lane() == 0u) differs[0] = differs[1] = 0u;
    barrier();
    for (uint i = lane(); i < listed; i += lanes()) {
        uvec2 other = orderOf(scratch.list[i]) ^ first;
        atomicOr(differs[0], other.x);
        atomicOr(differs[1], other.y);
    }
    barrier();
}

// The listed token where the running count (or mass) reaches scratch.rest becomes the last one kept; chosen.
// before: mass of the listed tokens before it.
void cutListed(bool byCount, float top) {
    uint listed = scratch.listed;
    uvec2 first = orderOf(scratch.list[0]), mask = uvec2(0u), prefix = uvec2(0u);
    uvec2 goal = scratch.rest, sum = uvec2(0u);
    compareListed(listed, first);
    for (int shift = 56; shift >= 0; shift -= 8) {
        uint digit = 255u << uint(shift % 32);
        uvec2 digits = shift >= 32 ? uvec2(0u, digit) : uvec2(digit, 0u);
        mask |= digits;
        if (((shift >= 32 ? differs[1] : differs[0]) & digit) == 0u) {
            prefix |= first & digits;
            continue;
        }
        clearBins(256u);
        for (uint i = lane(); i < listed; i += lanes()) {
            uvec2 order = orderOf(scratch.list[i]);
            if (((order ^ prefix) & mask & ~digits) != uvec2(0u)) continue;
            uint value = (shift >= 32 ? order.y : order.x) >> uint(shift % 32) & 255u;
            addToBin(255u - value, 1u, massAt(scratch.list[i], top, LOG2_E));
        }
        barrier();
        sumParts(256u);
        if (lane() == 0u) locate(256u, byCount, goal);
        barrier();
        goal = rest;
        sum = add(sum, before);
        uint value = 255u - foundBin;
        prefix |= uvec2(value << uint(shift % 32)) & digits;
        if (counts[foundBin] == 1u) break;
        barrier();
    }
    for (uint i = lane(); i < listed; i += lanes())
        if (((orderOf(scratch.list[i]) ^ prefix) & mask) == uvec2(0u)) chosen = scratch.list[i];  // there is one
    barrier();
    if (lane() == 0u) {
        scratch.lastId = chosen;
        scratch.lastKey = keyOf(logits[chosen]);
        before = sum;
    }
    barrier();
}

void cut(bool byCount, float top) {
    uint bin = scratch.bin, end = sliceBegin(gl_WorkGroupID.x + 1u);
    uvec2 kept = lastKept();
    for (uint i = sliceBegin(gl_WorkGroupID.x) + lane(); i < end; i += lanes())
        if (binOf(i, top) == bin && !less(orderOf(i), kept)) scratch.list[atomicAdd(scratch.listed, 1u)] = i;
    if (!comesLast()) return;
    cutListed(byCount, top);
    if (!byCount || !massFilter()) return;
    kept = add(before, massAt(chosen, top, LOG2_E));
    for (uint b = lane(); b < BINS; b += lanes()) {
        counts[b] = 0u;
        lows[b] = b < bin ? scratch.bins[BINS + b] : b == bin ? kept.x : 0u;
        highs[b] = b < bin ? scratch.bins[2u * BINS + b] : b == bin ? kept.y : 0u;
    }
    barrier();
    chooseBin(false);
}

// Write the token where the next step's embedding reads it, append it to the list, advance the position.
void pass(uint token) {
    ids[0] = token;
    picked[stepParams.pickedCount % push.room] = token;
    stepParams.position += stepParams.count;
    stepParams.count = 1u;
    stepParams.pickedCount += 1u;
    if (token < push.rows) settings.seen[token / 32u] |= 1u << (token % 32u);
}

// The slice in which the random point lies, of the masses in partMasses: range, and rest, the point in it.
void drawSlice() {
    uvec2 total = uvec2(0u);
    uint group = 0u, groups = gl_NumWorkGroups.x;
    for (uint g = 0u; g < groups; ++g) total = add(total, partMasses[g]);
    rest = highProduct(philox(stepParams.pickedCount, settings.seed), total);
    for (; group < groups - 1u && !less(rest, partMasses[group]); ++group) rest = subtract(rest, partMasses[group]);
    range[0] = sliceBegin(group);
    range[1] = sliceBegin(group + 1u);
}

// The token at the point `rest` of the mass of tokens [range[0], range[1]): cut into parts until one is left.
void drawToken(float top, uvec2 kept) {
    while (range[1] - range[0] > 1u) {
        uint begin = range[0], end = range[1], each = (end - begin + PARTS - 1u) / PARTS;
        for (uint p = lane(); p < PARTS; p += lanes()) {
            uvec2 sum = uvec2(0u);
            for (uint i = begin + p * each; i < min(begin + (p + 1u) * each, end); ++i) sum = add(sum, keptMass(i, top, kept));
            partMasses[p] = sum;
        }
        barrier();
        if (lane() == 0u) {
            uint p = 0u;
            for (; p < PARTS - 1u && !less(rest, partMasses[p]); ++p) rest = subtract(rest, partMasses[p]);
            range[0] = begin + p * each;
            range[1] = min(begin + (p + 1u) * each, end);
        }
        barrier();
    }
}

void draw(float top) {
    clearBins(1u);
    uvec2 sum = uvec2(0u), kept = lastKept();
    uint group = gl_WorkGroupID.x, end = sliceBegin(group + 1u);
    for (uint i = sliceBegin(group) + lane(); i < end; i += lanes()) sum = add(sum, keptMass(i, top, kept));
    addToBin(0u, 1u, sum);
    barrier();
    if (lane() == 0u) scratch.masses[group] = uvec2(lows[0], highs[0]);
    if (!comesLast()) return;
    for (uint g = lane(); g < gl_NumWorkGroups.x; g += lanes()) partMasses[g] = scratch.masses[g];
    barrier();
    if (lane() == 0u) drawSlice();
    barrier();
    drawToken(top, kept);
    if (lane() == 0u) pass(range[0]);
}

void main() {
    if (push.phase == LARGEST) {
        findLargest();
        return;
    }
    if ((push.phase == COUNT && !countFilter() && !massFilter()) || (push.phase == TOP_K && !countFilter()) ||
        (push.phase == TOP_P && !massFilter()))
        return;
    uint key = largest();
    float top = valueOf(key);
    if (!isFinite(key)) {
        if (push.phase == DRAW && gl_GlobalInvocationID.x == 0u) pass(NOT_A_TOKEN);
    } else if (push.phase == COUNT) {
        countTokens(top);
    } else if (push.phase == TOP_K) {
        cut(true, top);
    } else if (push.phase == TOP_P) {
        cut(false, top);
    } else {
        draw(top);
    }
}
