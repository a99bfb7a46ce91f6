#version 450
#extension GL_GOOGLE_include_directive : require
// Greedy choice: the index of the largest logit (the first of equals). Writes it where the next step's embedding reads
// its token, appends it to the list of picked tokens and advances the position, so that decoding stays on the device.
// Each workgroup takes a slice of the logits; the one that ends last compares what they found: nobody waits.
layout(local_size_x_id = 0) in;
layout(std430, binding = 0) readonly buffer Logits { float logits[]; };
layout(std430, binding = 1) writeonly buffer Ids { uint ids[]; };
layout(std430, binding = 2) writeonly buffer Picked { uint picked[]; };
layout(std430, binding = 3) buffer Step { uint position; uint count; uint pickedCount; uint reserved; } stepParams;
layout(std430, binding = 4) coherent buffer Found { uvec2 found[]; };     // per workgroup (bits of the logit, index)
layout(std430, binding = 5) coherent buffer Tickets { uint tickets[]; };  // 0 between dispatches
layout(push_constant) uniform Push { uint rows; uint room; } push;

shared float bestValue[256];
shared uint bestIndex[256];
shared bool last;

void take(inout float best, inout uint at, float other, uint index) {
    if (other > best || (other == best && index < at)) {
        best = other;
        at = index;
    }
}

// The best over the workgroup, in bestValue[0] and bestIndex[0].
void reduce(float best, uint at) {
    uint lane = gl_LocalInvocationID.x, live = gl_WorkGroupSize.x;
    bestValue[lane] = best;
    bestIndex[lane] = at;
    barrier();
    while (live > 1u) {
        uint rest = (live + 1u) / 2u;
        if (lane < live / 2u) {
            float mine = bestValue[lane];
            uint index = bestIndex[lane];
            take(mine, index, bestValue[lane + rest], bestIndex[lane + rest]);
            bestValue[lane] = mine;
            bestIndex[lane] = index;
        }
        live = rest;
        barrier();
    }
}

void main() {
    const float none = uintBitsToFloat(0xFF800000u);  // minus infinity
    uint lane = gl_LocalInvocationID.x, groups = gl_NumWorkGroups.x, group = gl_WorkGroupID.x;
    float best = none;
    uint at = 0xFFFFFFFFu;  // stays so where no logit is a finite number
    uint each = (push.rows + groups - 1u) / groups, end = min((group + 1u) * each, push.rows);
    for (uint i = group * each + lane; i < end; i += gl_WorkGroupSize.x)
        if (logits[i] > best) {
            best = logits[i];
            at = i;
        }
    reduce(best, at);
    if (groups > 1u) {
        if (lane == 0u) {
            found[group] = uvec2(floatBitsToUint(bestValue[0]), bestIndex[0]);
            memoryBarrierBuffer();
            last = atomicAdd(tickets[0], 1u) == groups - 1u;
        }
        barrier();
        if (!last) return;
        memoryBarrierBuffer();
        best = none;
        at = 0xFFFFFFFFu;
        for (uint i = lane; i < groups; i += gl_WorkGroupSize.x) take(best, at, uintBitsToFloat(found[i].x), found[i].y);
        reduce(best, at);
        if (lane == 0u) tickets[0] = 0u;
    }
    if (lane != 0u) return;
    uint token = bestIndex[0];
    ids[0] = token;
    picked[stepParams.pickedCount % push.room] = token;
    stepParams.position += stepParams.count;
    stepParams.count = 1u;
    stepParams.pickedCount += 1u;
}
