// A float's bits as an integer of the same order; NaN above all, -0 as 0.
uint keyOf(uint bits) {
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
    if (bits == 0x80000000u) bits = 0u;
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}
float valueOf(uint key) { return uintBitsToFloat((key & 0x80000000u) != 0u ? key & 0x7FFFFFFFu : ~key); }
bool isFinite(uint key) { return key > 0x007FFFFFu && key < 0xFF800000u; }
