#version 450
#extension GL_GOOGLE_include_directive : require
// Rows of a packed table: y[t, k] = w[ids[t], k], float32. Grid: ceil(K / CHUNK / local size) x T.
// A table larger than a storage range comes in row blocks; each writes the tokens it knows. An id outside the table
// gives zeros (the first block writes them). With BY_POSITION the ids are the positions of the step's tokens.
layout(local_size_x_id = 0) in;
#include "source.glsl"
layout(constant_id = 1) const int CHUNKS_PER_GROUP = 1;
layout(constant_id = 2) const int BY_POSITION = 0;

SOURCE4(0, codes)
SOURCE1(1, scales)
layout(std430, binding = 2) readonly buffer Ids { uint ids[]; };  // with BY_POSITION: the step, see step.glsl
layout(std430, binding = 3) writeonly buffer Y { float y[]; };
layout(push_constant) uniform Push {
    uint columns;
    uint rows;   // of this block of the table
    uint first;  // the id of its first row
    uint total;  // rows of the whole table
} push;

#include "weights.glsl"

void main() {
    uint c = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
    if (c >= push.columns / uint(CHUNK)) return;
    uint id = BY_POSITION != 0 ? ids[0] + t : ids[t];  // the step begins with its position
    bool known = id >= push.first && id - push.first < push.rows;
    if (!known && !(push.first == 0u && id >= push.total)) return;
    uint row = known ? id - push.first : 0u;
    Chunk chunk = chunkOf(c, row, push.rows);
    vec2 scale = known ? SCALE_TO_CODE(scaleOf(c, row, push.rows, uint(CHUNKS_PER_GROUP))) : vec2(0.0);
    uint at = t * push.columns + c * uint(CHUNK);
    [[unroll]] for (int e = 0; e < EIGHTS; ++e)
        [[unroll]] for (int i = 0; i < 4; ++i) {
            vec2 w = codePair(chunk, e, i) * scale.x + scale.y;
            y[at + uint(8 * e + 2 * i)] = w.x;
            y[at + uint(8 * e + 2 * i + 1)] = w.y;
        }
}
