/* Shared by all kernels: REAL is float or double, given by the build. */
#ifndef COMMON_H
#define COMMON_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREADS omp_get_num_threads()
#define THREAD omp_get_thread_num()
#define PROCESSORS omp_get_num_procs()
#else
#define THREADS 1
#define THREAD 0
#define PROCESSORS 1
#endif

#define INLINE static inline __attribute__((always_inline, unused))
#define HELPER static __attribute__((unused))
#define IS_FLOAT (sizeof(REAL) == 4)
#ifdef __AVX512F__
#define VECTOR 64
#else
#define VECTOR 32
#endif
#define LANES ((int)(VECTOR / sizeof(REAL)))
#define PTR(type, address) ((type *)(intptr_t)(address))

typedef REAL vec __attribute__((vector_size(VECTOR), aligned(sizeof(REAL)), may_alias));

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

typedef REAL half_vec __attribute__((vector_size(VECTOR / 2), aligned(sizeof(REAL)), may_alias));
typedef REAL quarter_vec __attribute__((vector_size(VECTOR / 4), aligned(sizeof(REAL)), may_alias));

/* Through a copy, so that what is summed may stay in a register until then. */
INLINE REAL sum_lanes(vec v) {
    union { vec whole; half_vec parts[2]; } halves = {v};
    union { half_vec whole; quarter_vec parts[2]; } quarters = {halves.parts[0] + halves.parts[1]};
    union { quarter_vec whole; REAL parts[VECTOR / 4 / sizeof(REAL)]; } rest = {quarters.parts[0] + quarters.parts[1]};
    for (int width = LANES / 8; width; width /= 2)
        for (int i = 0; i < width; i++) rest.parts[i] += rest.parts[i + width];
    return rest.parts[0];
}

/* Threads worth starting: below some 30 microseconds of work per thread the start costs more than it gives. */
INLINE int worth(int64_t work, int64_t per_thread, int64_t threads) {
    int64_t useful = work / per_thread;
    return (int)(useful < 1 ? 1 : min64(useful, threads));
}

/* exp, in a form that compilers vectorise: 2^n * P(r), |r| <= ln2/2, within 1 ulp or so; NaN stays.
   0 below the normal range, infinite from 88.37, where 2^n is just out of reach (exp overflows at 88.72). */
INLINE float expf_poly(float x) {
    float shifted = x * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23 rounds to an integer, kept in the low bits */
    float whole = shifted - 12582912.0f;
    float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    uint32_t n, bits;
    memcpy(&n, &shifted, 4);
    memcpy(&bits, &p, 4);
    bits += n << 23;
    memcpy(&p, &bits, 4);
    p = x < -87.3f ? 0.0f : p;
    return x > 88.37f ? INFINITY : p;
}

INLINE REAL exp_(REAL x) { return IS_FLOAT ? (REAL)expf_poly((float)x) : (REAL)exp((double)x); }

INLINE REAL sigmoid_(REAL x) { return (REAL)1 / ((REAL)1 + exp_(-x)); }

/* 1 - 2 / (exp(2x) + 1) cancels near 0, where the odd polynomial takes over. */
INLINE REAL tanh_(REAL x) {
    if (!IS_FLOAT) return (REAL)tanh((double)x);
    float z = (float)x, s = z * z;
    float p = -5.70498872745e-3f;
    p = p * s + 2.06390887954e-2f;
    p = p * s - 5.37397155531e-2f;
    p = p * s + 1.33314422036e-1f;
    p = p * s - 3.33332819422e-1f;
    float near = p * s * z + z;
    float far = 1.0f - 2.0f / (expf_poly(2.0f * z) + 1.0f);
    return (REAL)((z < 0.625f) & (z > -0.625f) ? near : far);
}

#endif
