// A histogram in shared memory: tokens and their mass by bin, and the bin where a running sum reaches a goal.
// Atomics on integers only; right for any workgroup size. Needs BINS and fixed_point.glsl.
const uint PARTS = 64u;  // a number of bins is a multiple of it
shared uint counts[BINS], lows[BINS], highs[BINS];  // tokens, low and high word of their mass
shared uint partCounts[PARTS];
shared uvec2 partMasses[PARTS];
shared uint foundBin;
shared uvec2 rest, before;

uint lane() { return gl_LocalInvocationID.x; }
uint lanes() { return gl_WorkGroupSize.x; }

void addToBin(uint bin, uint tokens, uvec2 mass) {
    atomicAdd(counts[bin], tokens);
    uint old = atomicAdd(lows[bin], mass.x);
    uint more = mass.y + uint(old + mass.x < old);
    if (more != 0u) atomicAdd(highs[bin], more);
}

void clearBins(uint bins) {
    for (uint i = lane(); i < bins; i += lanes()) counts[i] = lows[i] = highs[i] = 0u;
    barrier();
}

// Sums over each part of the bins; what `locate` looks at first.
void sumParts(uint bins) {
    uint each = bins / PARTS;
    for (uint p = lane(); p < PARTS; p += lanes()) {
        partCounts[p] = 0u;
        partMasses[p] = uvec2(0u);
        for (uint b = p * each; b < (p + 1u) * each; ++b) {
            partCounts[p] += counts[b];
            partMasses[p] = add(partMasses[p], uvec2(lows[b], highs[b]));
        }
    }
    barrier();
}

// The first bin where the running count (or mass) reaches `goal`: foundBin. Of one invocation, after sumParts.
// rest: what its own tokens must reach of it; before: mass of the bins before it.
void locate(uint bins, bool byCount, uvec2 goal) {
    uint each = bins / PARTS, p = 0u;
    rest = goal;
    before = uvec2(0u);
    for (; p < PARTS - 1u; ++p) {
        uvec2 size = byCount ? uvec2(partCounts[p], 0u) : partMasses[p];
        if (!less(size, rest)) break;
        rest = subtract(rest, size);
        before = add(before, partMasses[p]);
    }
    uint b = p * each, end = b + each - 1u;
    for (; b < end; ++b) {
        uvec2 mass = uvec2(lows[b], highs[b]), size = byCount ? uvec2(counts[b], 0u) : mass;
        if (!less(size, rest)) break;
        rest = subtract(rest, size);
        before = add(before, mass);
    }
    foundBin = b;
}
