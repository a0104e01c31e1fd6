/* What compiled loops over time share: products with matrices, and threads that wait for one another.

A team of threads goes through the steps together; each owns a part of the axes that it computes. Matrices are first laid out as they are
read: columns of LANES results. For a few steps that would cost more than it gives; there they are read as they lie. */
#ifndef LOOPS_H
#define LOOPS_H

#include "common.h"
#include <sched.h>
#include <stdlib.h>

#define ROWS 8
#define FEW_STEPS 8

typedef struct { int64_t from, to; } range_t;

/* The part of `size` that a member of a team owns, in units of `align`. */
INLINE range_t part_of(int64_t size, int64_t align, int64_t rank, int64_t team) {
    int64_t tiles = (size + align - 1) / align;
    range_t own = {min64(size, tiles * rank / team * align), min64(size, tiles * (rank + 1) / team * align)};
    return own;
}

INLINE void wait_for_all(int64_t *arrived, int64_t *round, int64_t team) {
    if (team == 1) return;
    int64_t target = ++*round * team;
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int spins = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < target; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins > 2000) sched_yield(); /* somebody else has the core that we wait for */
    }
}

INLINE void product_tile(const REAL *packed, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, const int rows,
                         const int columns) {
    vec even[4][4] = {{{0}}}, odd[4][4] = {{{0}}};
    int64_t k = 0;
    for (; k + 2 <= inner; k += 2)
        for (int r = 0; r < rows; r++) {
            REAL a = x[r * x_stride + k], b = x[r * x_stride + k + 1];
            for (int q = 0; q < columns; q++) {
                const vec *w = (const vec *)(packed + (q * inner + k) * LANES);
                even[r][q] += w[0] * a;
                /* Two sets of sums hide the latency where there are few rows; with many they would not fit the registers. */
                if (rows < 3) odd[r][q] += w[1] * b;
                else even[r][q] += w[1] * b;
            }
        }
    if (k < inner)
        for (int r = 0; r < rows; r++)
            for (int q = 0; q < columns; q++) even[r][q] += *(const vec *)(packed + (q * inner + k) * LANES) * x[r * x_stride + k];
    for (int r = 0; r < rows; r++)
        for (int q = 0; q < columns; q++) *(vec *)(y + r * y_stride + q * LANES) = even[r][q] + odd[r][q];
}

INLINE void product_rows(const REAL *packed, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, int64_t rows,
                         const int columns) {
    switch (rows) {
        case 1: product_tile(packed, x, x_stride, y, y_stride, inner, 1, columns); break;
        case 2: product_tile(packed, x, x_stride, y, y_stride, inner, 2, columns); break;
        case 3: product_tile(packed, x, x_stride, y, y_stride, inner, 3, columns); break;
        default: product_tile(packed, x, x_stride, y, y_stride, inner, 4, columns);
    }
}

/* y[r][o] = sum_k w[o][k] x[r][k] for o in a part that begins at a multiple of LANES; w as `pack` lays it out. */
static void product(const REAL *packed, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, range_t own,
                    int64_t rows) {
    int64_t whole = own.from + (own.to - own.from) / LANES * LANES;
    for (int64_t r = 0; r < rows; r += 4) {
        int64_t count = min64(4, rows - r);
        const REAL *from = x + r * x_stride;
        REAL *to = y + r * y_stride;
        for (int64_t o = own.from; o < whole;) {
            int64_t columns = min64(4, (whole - o) / LANES);
            const REAL *w = packed + o * inner;
            switch (columns) {
                case 1: product_rows(w, from, x_stride, to + o, y_stride, inner, count, 1); break;
                case 2: product_rows(w, from, x_stride, to + o, y_stride, inner, count, 2); break;
                case 3: product_rows(w, from, x_stride, to + o, y_stride, inner, count, 3); break;
                default: product_rows(w, from, x_stride, to + o, y_stride, inner, count, 4);
            }
            o += columns * LANES;
        }
        if (whole < own.to) { /* what follows the part is somebody else's */
            REAL rest[4 * LANES];
            product_rows(packed + whole * inner, from, x_stride, rest, LANES, inner, count, 1);
            for (int64_t i = 0; i < count; i++)
                for (int64_t o = whole; o < own.to; o++) to[i * y_stride + o] = rest[i * LANES + o - whole];
        }
    }
}

/* The same from w as it lies: the element of result o and operand k at o * out + k * in, one of which is 1. */
static void product_few(const REAL *w, int64_t out, int64_t in, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner,
                        range_t own, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        const REAL *a = x + r * x_stride;
        REAL *to = y + r * y_stride;
        if (in == 1) {
            for (int64_t o = own.from; o < own.to; o++) {
                const REAL *row = w + o * out;
                vec even = {0}, odd = {0};
                int64_t k = 0;
                for (; k + 2 * LANES <= inner; k += 2 * LANES) {
                    even += *(const vec *)(a + k) * *(const vec *)(row + k);
                    odd += *(const vec *)(a + k + LANES) * *(const vec *)(row + k + LANES);
                }
                REAL sum = sum_lanes(even + odd);
                for (; k < inner; k++) sum += a[k] * row[k];
                to[o] = sum;
            }
        } else {
            for (int64_t o = own.from; o < own.to; o++) to[o] = 0;
            for (int64_t k = 0; k < inner; k++)
                for (int64_t o = own.from; o < own.to; o++) to[o] += w[o * out + k * in] * a[k];
        }
    }
}

/* The sum of a few numbers in one piece. */
INLINE REAL sum_run(const REAL *x, int64_t size) {
    vec sums = {0};
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) sums += *(const vec *)(x + k);
    REAL sum = size >= LANES ? sum_lanes(sums) : 0;
    for (; k < size; k++) sum += x[k];
    return sum;
}

/* w [results, operands] with these strides as columns of LANES results: [results / LANES][operands][LANES]; one member's share of it. */
static void pack(const REAL *w, int64_t out, int64_t in, REAL *packed, int64_t results, int64_t inner, int64_t rank, int64_t team) {
    for (int64_t column = rank; column * LANES < results; column += team)
        for (int64_t lane = 0; lane < LANES; lane++) {
            int64_t o = column * LANES + lane;
            REAL *to = packed + column * inner * LANES + lane;
            for (int64_t k = 0; k < inner; k++) to[k * LANES] = o < results ? w[o * out + k * in] : 0;
        }
}

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
