// Probability mass as integers, so that sums do not depend on their order and every driver finds the same ones.
// A mass is a 64-bit number (low word, high word) with 40 bits behind the point. tlite_vk/host_sampler.py is its twin.
uvec2 add(uvec2 a, uvec2 b) {
    uint carry;
    uint low = uaddCarry(a.x, b.x, carry);
    return uvec2(low, a.y + b.y + carry);
}

uvec2 subtract(uvec2 a, uvec2 b) {
    uint borrow;
    uint low = usubBorrow(a.x, b.x, borrow);
    return uvec2(low, a.y - b.y - borrow);
}

bool less(uvec2 a, uvec2 b) { return a.y < b.y || (a.y == b.y && a.x < b.x); }

// a * share / 2^32, rounded up.
uvec2 shareOf(uvec2 a, uint share) {
    uint low0, high0, low1, high1;
    umulExtended(a.x, share, high0, low0);
    umulExtended(a.y, share, high1, low1);
    uvec2 product = add(uvec2(low1, high1), uvec2(high0, 0u));
    return low0 != 0u ? add(product, uvec2(1u, 0u)) : product;
}

// a * b / 2^64, rounded down.
uvec2 highProduct(uvec2 a, uvec2 b) {
    uint low00, high00, low01, high01, low10, high10, low11, high11;
    umulExtended(a.x, b.x, high00, low00);
    umulExtended(a.x, b.y, high01, low01);
    umulExtended(a.y, b.x, high10, low10);
    umulExtended(a.y, b.y, high11, low11);
    uvec2 middle = add(add(uvec2(high00, 0u), uvec2(low01, 0u)), uvec2(low10, 0u));  // of 2^32
    uvec2 high = add(add(uvec2(high01, 0u), uvec2(high10, 0u)), uvec2(middle.y, 0u));
    return add(uvec2(low11, high11), high);
}

// 2^y for y <= 0 as a mass; 0 below 2^-41, and for NaN. Only operations that IEEE 754 rounds correctly, none contracted:
// the same bits everywhere. A polynomial through 1 and 2, largest relative error 8e-8.
uvec2 massOf(float y) {
    if (!(y > -41.0)) return uvec2(0u);
    float whole = floor(y);
    precise float f = y - whole;
    precise float p = 0.000217017252 * f;
    p = p + 0.00124483928;
    p = p * f;
    p = p + 0.00967676379;
    p = p * f;
    p = p + 0.0554850884;
    p = p * f;
    p = p + 0.240229234;
    p = p * f;
    p = p + 0.693147063;
    p = p * f;
    p = p + 1.0;
    uint mantissa = uint(p * 8388608.0);  // 2^23 to 2^24, exactly
    int left = 17 + int(whole);
    if (left < 0) return uvec2(mantissa >> uint(-left), 0u);
    return uvec2(mantissa << uint(left), left == 0 ? 0u : mantissa >> uint(32 - left));
}
