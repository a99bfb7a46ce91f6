// Sum over a workgroup through shared memory: right at any subgroup size, for any local size, a power of two or not.
#ifndef REDUCE_LANES
#define REDUCE_LANES 256
#endif
shared float reduceScratch[REDUCE_LANES];

float workgroupSum(float value) {
    uint lane = gl_LocalInvocationIndex, live = gl_WorkGroupSize.x * gl_WorkGroupSize.y;
    reduceScratch[lane] = value;
    barrier();
    while (live > 1u) {
        uint rest = (live + 1u) / 2u;
        if (lane < live / 2u) reduceScratch[lane] += reduceScratch[lane + rest];
        live = rest;
        barrier();
    }
    float total = reduceScratch[0];
    barrier();
    return total;
}
