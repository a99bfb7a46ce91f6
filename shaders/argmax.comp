#version 450
#extension GL_GOOGLE_include_directive : require
// Greedy choice: the index of the largest logit (the first of equals). Writes it where the next step's embedding reads
// its token, appends it to the list of picked tokens and advances the position, so that decoding stays on the device.
layout(local_size_x_id = 0) in;
layout(std430, binding = 0) readonly buffer Logits { float logits[]; };
layout(std430, binding = 1) writeonly buffer Ids { uint ids[]; };
layout(std430, binding = 2) writeonly buffer Picked { uint picked[]; };
layout(std430, binding = 3) buffer Step { uint position; uint count; uint pickedCount; uint reserved; } stepParams;
layout(push_constant) uniform Push { uint rows; uint room; } push;

shared float bestValue[256];
shared uint bestIndex[256];

void main() {
    uint lane = gl_LocalInvocationID.x, live = gl_WorkGroupSize.x;
    float best = uintBitsToFloat(0xFF800000u);  // minus infinity
    uint at = 0xFFFFFFFFu;  // stays so where no logit is a finite number
    for (uint i = lane; i < push.rows; i += gl_WorkGroupSize.x) {
        float v = logits[i];
        if (v > best) { best = v; at = i; }
    }
    bestValue[lane] = best;
    bestIndex[lane] = at;
    barrier();
    while (live > 1u) {
        uint rest = (live + 1u) / 2u;
        if (lane < live / 2u) {
            float other = bestValue[lane + rest];
            uint index = bestIndex[lane + rest];
            if (other > bestValue[lane] || (other == bestValue[lane] && index < bestIndex[lane])) {
                bestValue[lane] = other;
                bestIndex[lane] = index;
            }
        }
        live = rest;
        barrier();
    }
    if (lane != 0u) return;
    uint token = bestIndex[0];
    ids[0] = token;
    picked[stepParams.pickedCount % push.room] = token;
    stepParams.position += stepParams.count;
    stepParams.count = 1u;
    stepParams.pickedCount += 1u;
}
