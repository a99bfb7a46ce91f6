// Read-only operands. The same shader reads them as storage buffers or, with TEXEL defined, as uniform texel buffers:
// some CPU drivers and phone GPUs fetch texels several times faster than they load from storage (docs/adr/0002).
//   SOURCE4(binding, name)   name(i) -> uvec4, 16 bytes at index i
//   SOURCE1(binding, name)   name(i) -> uint, 4 bytes at index i
#extension GL_EXT_control_flow_attributes : require

#ifdef TEXEL
#define SOURCE4(b, name)                               \
    layout(binding = b) uniform usamplerBuffer name##Texels; \
    uvec4 name(uint i) { return texelFetch(name##Texels, int(i)); }
#define SOURCE1(b, name)                               \
    layout(binding = b) uniform usamplerBuffer name##Texels; \
    uint name(uint i) { return texelFetch(name##Texels, int(i)).x; }
#else
#define SOURCE4(b, name)                                                      \
    layout(std430, binding = b) readonly buffer name##Block { uvec4 name##Words[]; }; \
    uvec4 name(uint i) { return name##Words[i]; }
#define SOURCE1(b, name)                                                     \
    layout(std430, binding = b) readonly buffer name##Block { uint name##Words[]; }; \
    uint name(uint i) { return name##Words[i]; }
#endif

// fp16 stored, fp32 computed: core GLSL, so it works on drivers with neither 16-bit storage nor fp16 arithmetic.
// Values beyond fp16's range are clamped to it: an infinity would poison every later sum.
uint packHalves(float a, float b) { return packHalf2x16(clamp(vec2(a, b), -65504.0, 65504.0)); }
