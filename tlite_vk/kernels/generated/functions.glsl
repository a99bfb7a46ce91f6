// See functions.py: only the functions that a kernel calls become part of it.
bool isNaN(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }
bool isInfinite(float x) { return (floatBitsToUint(x) & 0x7fffffffu) == 0x7f800000u; }
float notANumber() { return uintBitsToFloat(0x7fc00000u); }
float infinity() { return uintBitsToFloat(0x7f800000u); }
float withSign(float size, float x) { return uintBitsToFloat((floatBitsToUint(size) & 0x7fffffffu) | (floatBitsToUint(x) & 0x80000000u)); }
float maximum(float a, float b) { return isNaN(a) ? a : isNaN(b) ? b : max(a, b); }
float minimum(float a, float b) { return isNaN(a) ? a : isNaN(b) ? b : min(a, b); }
float signOf(float x) { return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; }
float squareRoot(float x) { return x < 0.0 ? notANumber() : isInfinite(x) || x == 0.0 ? x : sqrt(x); }
float divide(float a, float b) {
    if (b == 0.0) return a == 0.0 || isNaN(a) ? notANumber() : withSign(infinity(), uintBitsToFloat(floatBitsToUint(a) ^ floatBitsToUint(b)));
    if (isInfinite(b)) return isInfinite(a) || isNaN(a) ? notANumber() : 0.0;
    return a / b;
}
float power2(int n) { return uintBitsToFloat(uint(n + 127) << 23); }
float exponential(float x) {
    if (!(x > -104.0)) return isNaN(x) ? x : 0.0;
    if (x > 88.8) return infinity();
    float n = roundEven(x * 1.44269504), r = x - n * 0.693359375 + n * 2.12194440e-4;
    float p = 0.5 + r * (0.166666667 + r * (0.0416664569 + r * (0.00833329708 + r * (0.00139345342 + r * 0.000199004305))));
    int k = int(n), half1 = k / 2;
    return (1.0 + (r + r * r * p)) * power2(half1) * power2(k - half1);
}
float exponentialLess1(float x) {
    if (!(abs(x) < 0.35)) return exponential(x) - 1.0;
    return x + x * x * (0.5 + x * (0.166666667 + x * (0.0416664569 + x * (0.00833329708 + x * (0.00139345342 + x * 0.000199004305)))));
}
float logSeries(float s) {
    float z = s * s;
    return s * (2.0 + z * (0.666666667 + z * (0.4 + z * (0.285714286 + z * (0.222222222 + z * 0.181818182)))));
}
float logarithm(float x) {
    if (!(x > 0.0)) return x == 0.0 ? -infinity() : notANumber();
    if (isInfinite(x)) return x;
    float shift = 0.0;
    if (x < 1.2e-38) { x *= 16777216.0; shift = 24.0; }
    uint u = floatBitsToUint(x);
    int e = int(u >> 23) - 127;
    float m = uintBitsToFloat((u & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356) { m *= 0.5; e += 1; }
    float n = float(e) - shift;
    return n * 0.693359375 + (logSeries((m - 1.0) / (m + 1.0)) - n * 2.12194440e-4);
}
float logarithm1(float x) { return abs(x) < 0.3 ? logSeries(x / (2.0 + x)) : logarithm(1.0 + x); }
uint twoOverPi(int word) {  // 32 bits of 2/pi; bits before the point are 0
    const uint bits[8] = uint[8](0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u);
    return word < 0 || word > 7 ? 0u : bits[word];
}
uint twoOverPiFrom(int bit) {  // 32 bits from a bit on, which may be negative
    int word = bit >> 5, rest = bit & 31;
    return rest == 0 ? twoOverPi(word) : twoOverPi(word) << rest | twoOverPi(word + 1) >> (32 - rest);
}
float turnsFar(float x, out int quadrant) {  // Payne and Hanek's reduction: only the bits of 2/pi that matter
    uint u = floatBitsToUint(x), m = (u & 0x7fffffu) | 0x800000u, high, low, carry, middle;
    int first = int(u >> 23 & 255u) - 127 - 23 - 2;
    umulExtended(m, twoOverPiFrom(first + 32), high, low);
    uint top = m * twoOverPiFrom(first) + high;
    umulExtended(m, twoOverPiFrom(first + 64), high, middle);
    low = uaddCarry(low, high, carry);
    top += carry;
    int q = int(top >> 30), part = int(top & 0x3fffffffu);
    if (part >= 0x20000000) { q += 1; part -= 0x40000000; }
    float y = (float(part) * 9.31322574615478515625e-10 + float(low) * 2.16840434497100886801e-19) * 1.57079633;
    quadrant = (x < 0.0 ? -q : q) & 3;
    return x < 0.0 ? -y : y;
}
float turns(float x, out int quadrant) {  // x less quarters of a circle, within +-pi/4
    if (abs(x) > 30000.0) return turnsFar(x, quadrant);
    float n = roundEven(x * 0.636619772);
    quadrant = int(n) & 3;
    float y = ((x - n * 1.5703125) - n * 0.0004825592041015625) - n * 1.2665987014770508e-06;
    return y - n * 9.89530235528946e-10;
}
float sinSmall(float x) {
    float z = x * x;
    return x + x * z * (-0.166666667 + z * (0.00833333188 + z * (-0.000198400872 + z * 2.72499733e-06)));
}
float cosSmall(float x) {
    float z = x * x;
    return 1.0 - 0.5 * z + z * z * (0.0416666667 + z * (-0.00138888878 + z * (2.48006476e-05 - z * 2.73053243e-07)));
}
float sine(float x) {
    if (isNaN(x) || isInfinite(x)) return notANumber();
    int q;
    float r = turns(x, q), y = (q & 1) == 0 ? sinSmall(r) : cosSmall(r);
    return q > 1 ? -y : y;
}
float cosine(float x) {
    if (isNaN(x) || isInfinite(x)) return notANumber();
    int q;
    float r = turns(x, q), y = (q & 1) == 0 ? cosSmall(r) : sinSmall(r);
    return q == 1 || q == 2 ? -y : y;
}
float tangent(float x) { return divide(sine(x), cosine(x)); }
float arcSinSmall(float x) {
    float z = x * x;
    return x + x * z * (0.166666663 + z * (0.0750009873 + z * (0.044598039 + z * (0.0311160942 + z * (0.0170781082 + z * 0.0338053863)))));
}
float arcSine(float x) {
    float a = abs(x);
    if (!(a <= 1.0)) return notANumber();
    return a <= 0.5 ? arcSinSmall(x) : withSign(1.57079633 - 2.0 * arcSinSmall(sqrt(0.5 - 0.5 * a)), x);
}
float arcCosine(float x) {
    if (!(abs(x) <= 1.0)) return notANumber();
    if (x > 0.5) return 2.0 * arcSinSmall(sqrt(0.5 - 0.5 * x));
    return x < -0.5 ? 3.14159265 - 2.0 * arcSinSmall(sqrt(0.5 + 0.5 * x)) : 1.57079633 - arcSinSmall(x);
}
float arcTanSmall(float x) {
    float z = x * x;
    return x + x * z * (-0.333333318 + z * (0.199995501 + z * (-0.142642327 + z * (0.107463 - z * 0.0645938021))));
}
float arcTangent(float x) {
    if (isNaN(x)) return x;
    float a = abs(x);
    float y = a > 2.41421356 ? 1.57079633 - arcTanSmall(1.0 / a)
            : a > 0.414213562 ? 0.785398163 + arcTanSmall((a - 1.0) / (a + 1.0)) : arcTanSmall(a);
    return withSign(isInfinite(a) ? 1.57079633 : y, x);
}
float hyperbolicSine(float x) {
    float a = abs(x);
    if (a < 0.3) {
        float z = x * x;
        return x + x * z * (0.166666667 + z * (0.00833333333 + z * 0.000198412698));
    }
    float e = exponential(a * 0.5);
    precise float large = e * 0.5 * e;  // in this order: e * e may be infinite
    return isNaN(x) ? x : withSign(a > 20.0 ? large : 0.5 * (e * e - 1.0 / (e * e)), x);
}
float hyperbolicCosine(float x) {
    float e = exponential(abs(x) * 0.5);
    precise float large = e * 0.5 * e;  // in this order: e * e may be infinite
    return abs(x) > 20.0 ? large : 0.5 * (e * e + 1.0 / (e * e));
}
float hyperbolicTangent(float x) {
    float a = abs(x), z = x * x;
    if (a < 0.625)
        return x + x * z * (-0.333333332 + z * (0.133333043 + z * (-0.0539594072 + z * (0.0217699687 + z * (-0.0083470005 + z * 0.00229585989)))));
    return isNaN(x) ? x : withSign(a > 10.0 ? 1.0 : 1.0 - 2.0 / (exponential(2.0 * a) + 1.0), x);
}
float areaSine(float x) {
    float a = abs(x);
    if (!(a < 1.0e4)) return isNaN(x) ? x : withSign(logarithm(a) + 0.693147181, x);
    return withSign(logarithm1(a + a * a / (1.0 + sqrt(a * a + 1.0))), x);
}
float areaCosine(float x) {
    if (!(x >= 1.0)) return notANumber();
    float t = x - 1.0;
    return x > 1.0e4 ? logarithm(x) + 0.693147181 : logarithm1(t + sqrt(2.0 * t + t * t));
}
float areaTangent(float x) {
    float a = abs(x);
    if (!(a <= 1.0)) return notANumber();
    return withSign(a == 1.0 ? infinity() : a < 0.13 ? 0.5 * logSeries(a) : 0.5 * logarithm((1.0 + a) / (1.0 - a)), x);
}
float errorFunction(float x) {
    float a = abs(x), z = x * x;
    if (isNaN(x)) return x;
    if (a < 1.0)
        return x * (1.12837917 + z * (-0.376126385 + z * (0.112837826 + z * (-0.0268654383 + z * (0.00522105341
               + z * (-0.000848439652 + z * (0.000112682537 - z * 9.67359017e-06)))))));
    if (a > 4.0) return withSign(1.0, x);
    float l = 0.000303212967 + a * (-1.13016668 + a * (-0.631937094 + a * (-0.109978245 + a * (0.0263647174
              + a * (-0.00474022234 + a * (0.000592769537 + a * (-4.55906223e-05 + a * 1.6140616e-06)))))));
    return withSign(1.0 - exponential(l), x);
}
float sigmoid(float x) {
    float e = exponential(-abs(x));
    return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}
float softplus(float x) { return isNaN(x) ? x : max(x, 0.0) + logarithm1(exponential(-abs(x))); }
float powerWhole(float x, int n) {
    float y = 1.0;
    for (int k = abs(n); k > 0; k >>= 1) {
        if ((k & 1) != 0) y *= x;
        x *= x;
    }
    return n < 0 ? divide(1.0, y) : y;
}
float power(float x, float y) {
    if (y == 0.0 || x == 1.0) return 1.0;
    if (isNaN(x) || isNaN(y)) return notANumber();
    bool whole = floor(y) == y, odd = whole && abs(y) < 16777216.0 && (int(y) & 1) != 0;
    if (whole && abs(y) <= 64.0) return powerWhole(x, int(y));
    float a = abs(x);
    if (isInfinite(y)) return a == 1.0 ? 1.0 : (a > 1.0) == (y > 0.0) ? infinity() : 0.0;
    if (x < 0.0 && !whole && !isInfinite(x)) return notANumber();
    float r = a == 0.0 || isInfinite(a) ? ((a == 0.0) == (y > 0.0) ? 0.0 : infinity()) : exponential(y * logarithm(a));
    return odd && x < 0.0 ? -r : r;
}
int powerInt(int x, int n) {
    if (n < 0) return x == 1 ? 1 : x == -1 ? ((n & 1) != 0 ? -1 : 1) : 0;
    int y = 1;
    for (; n > 0; n >>= 1) {
        if ((n & 1) != 0) y *= x;
        x *= x;
    }
    return y;
}
int divideInt(int a, int b) { return b == 0 ? 0 : b == -1 ? -a : a / b; }
uint divideUint(uint a, uint b) { return b == 0u ? 0u : a / b; }
int remainderInt(int a, int b) { return b == 0 || b == -1 ? 0 : a - a / b * b; }
int moduloInt(int a, int b) {
    int r = remainderInt(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
uint moduloUint(uint a, uint b) { return b == 0u ? 0u : a % b; }
float remainderFloat(float a, float b) {
    if (isNaN(a) || isNaN(b) || isInfinite(a) || b == 0.0) return notANumber();
    float x = abs(a), y = abs(b);
    if (isInfinite(b) || x < y) return a;
    uint ux = floatBitsToUint(x), uy = floatBitsToUint(y);
    uint ex = max(ux >> 23, 1u), ey = max(uy >> 23, 1u);
    uint mx = (ux & 0x7fffffu) | (ux >> 23 != 0u ? 0x800000u : 0u), my = (uy & 0x7fffffu) | (uy >> 23 != 0u ? 0x800000u : 0u);
    for (uint e = ex; e > ey; --e) {
        if (mx >= my) mx -= my;
        mx <<= 1;
    }
    if (mx >= my) mx -= my;
    float scaled = float(mx);
    for (uint e = ey; e > 150u; --e) scaled *= 2.0;
    for (uint e = ey; e < 150u; ++e) scaled *= 0.5;
    return withSign(scaled, a);
}
float moduloFloat(float a, float b) {
    float r = remainderFloat(a, b);
    return r != 0.0 && (r < 0.0) != (b < 0.0) ? r + b : r == 0.0 ? withSign(0.0, b) : r;
}
float roundToHalf(float x) {
    float a = abs(x);
    if (!(a < 65520.0)) return isNaN(x) ? x : withSign(infinity(), x);
    if (a < 6.103515625e-05) return withSign(roundEven(a * 16777216.0) * 5.9604644775390625e-08, x);
    uint u = floatBitsToUint(a);
    return withSign(uintBitsToFloat((u + 0xfffu + (u >> 13 & 1u)) & 0xffffe000u), x);
}
float roundToBfloat(float x) {
    uint u = floatBitsToUint(x);
    return isNaN(x) ? x : uintBitsToFloat((u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u);
}
int toInt(float x) { return !(x > -2147483904.0) || x >= 2147483648.0 ? (-2147483647 - 1) : int(x); }
uint toUint(float x) { return x < 0.0 ? uint(toInt(x)) : isNaN(x) || x >= 4294967296.0 ? 0u : uint(x); }
