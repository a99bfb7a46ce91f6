// Philox4x32-10, a counter-based random generator: number `counter` of the stream `key`, 64 bits of it.
// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
uvec2 philox(uint counter, uvec2 key) {
    uvec4 c = uvec4(counter, 0u, 0u, 0u);
    for (int round = 0; round < 10; ++round) {
        uint low0, high0, low1, high1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
        key += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return c.xy;
}
