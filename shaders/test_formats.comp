#version 450
// Used by the tests of the binding only: reads one value through a texel buffer and one through a uniform buffer.
layout(local_size_x = 1) in;
layout(set = 0, binding = 0) uniform usamplerBuffer texels;
layout(set = 0, binding = 1) uniform samplerBuffer halves;
layout(set = 0, binding = 2, std140) uniform U { uvec4 u; };
layout(set = 0, binding = 3, std430) writeonly buffer Y { uvec4 y[]; };

void main() {
    int i = int(gl_WorkGroupID.x);
    y[i] = texelFetch(texels, i) + u + uvec4(texelFetch(halves, i));
}
