/* Functions of a number, in forms that compilers vectorise. */
#ifndef FUNCTIONS_H
#define FUNCTIONS_H

#include "common.h"

#define FUNCTION(name, ours) \
    INLINE REAL name##_(REAL x) { return IS_FLOAT ? (REAL)ours##f((float)x) : (REAL)ours((double)x); }
FUNCTION(expm1, expm1)
FUNCTION(sqrt, sqrt)
FUNCTION(floor, floor)
FUNCTION(ceil, ceil)
FUNCTION(round, rint)
FUNCTION(sin, sin)
FUNCTION(cos, cos)
FUNCTION(tan, tan)
FUNCTION(arctan, atan)
FUNCTION(erf, erf)
#undef FUNCTION

/* log, in a form that compilers vectorise: the exponent, and a polynomial of the mantissa between sqrt(1/2) and sqrt(2); within 2 ulp. */
INLINE float logf_poly(float x) {
    int tiny = x < 1.17549435e-38f;
    float scaled = tiny ? x * 8388608.0f : x;
    uint32_t bits;
    memcpy(&bits, &scaled, 4);
    float e = (float)((int32_t)(bits >> 23) - 126) - (tiny ? 23.0f : 0.0f), m;
    bits = (bits & 0x007fffff) | 0x3f000000;
    memcpy(&m, &bits, 4);
    int low = m < 0.707106781186547524f;
    e = low ? e - 1.0f : e;
    m = low ? m + m - 1.0f : m - 1.0f;
    float z = m * m, p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    p = p * m * z - 2.12194440e-4f * e - 0.5f * z;
    float y = m + p + 0.693359375f * e;
    y = x == 0 ? -INFINITY : y;
    y = x > 3.4e38f ? x : y; /* infinite */
    return x >= 0 ? y : NAN;
}

INLINE REAL log_(REAL x) { return IS_FLOAT ? (REAL)logf_poly((float)x) : (REAL)log((double)x); }

/* The rounding of 1 + x is made good. */
INLINE REAL log1p_(REAL x) {
    if (!IS_FLOAT) return (REAL)log1p((double)x);
    float whole = 1.0f + (float)x, lost = ((float)x - (whole - 1.0f)) / whole;
    lost = whole > 0 ? lost : 0.0f;
    lost = whole < 3.4e38f ? lost : 0.0f;
    return (REAL)(logf_poly(whole) + lost);
}

INLINE REAL abs_(REAL x) { return x < 0 ? -x : x; }
INLINE REAL sign_(REAL x) { return x != x ? x : (REAL)(x > 0) - (REAL)(x < 0); }
INLINE REAL pow_(REAL a, REAL b) { return IS_FLOAT ? (REAL)powf((float)a, (float)b) : (REAL)pow((double)a, (double)b); }
INLINE REAL maximum_(REAL a, REAL b) { return (a > b) | (a != a) ? a : b; }
INLINE REAL minimum_(REAL a, REAL b) { return (a < b) | (a != a) ? a : b; }
INLINE REAL softplus_(REAL x) { return x > 40 ? x : log1p_(exp_(x)); }
INLINE REAL logsigmoid_(REAL x) { return minimum_(x, 0) - log1p_(exp_(-abs_(x))); }
INLINE REAL gelu_(REAL x) { return x * (REAL)0.5 * (1 + erf_(x * (REAL)0.70710678118654752440)); }
INLINE REAL gelu_tanh_(REAL x) {
    return x * (REAL)0.5 * (1 + tanh_((REAL)0.79788456080286535588 * (x + (REAL)0.044715 * x * x * x)));
}

#endif
