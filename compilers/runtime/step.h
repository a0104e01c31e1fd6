/* What the steps of models share. */
#ifndef STEP_H
#define STEP_H

#include "functions.h"
#include "products.h"
#include "team.h"

/* One step of `rows` sequences. Of each group of registers: the entries in use before it, and those that there is room for; the length of
   whole sequences. */
typedef struct {
    int64_t rows;
    const int64_t *position, *used, *room;
    int64_t length, fault;
} step_t;

typedef struct {
    int64_t rank, team, round, *arrived;
} member_t;

/* A place in a table of `size` entries; the first, and a fault, if there is none. */
INLINE int64_t entry(REAL at, int64_t size, int64_t *fault) {
    int inside = at >= 0 && at < (REAL)size;
    if (!inside) *fault = 1;
    return inside ? (int64_t)at : 0;
}

/* Sums in variables with names of their own: in an array, however short, they would be stored in every turn. */
#define EACH4(do) do(0) do(1) do(2) do(3)

/* A result for one row. What lies in one piece is fetched before it is asked for. */
INLINE REAL once_one(const REAL *w, const REAL *x, int64_t inner) {
    const int64_t fours = inner / (4 * LANES) * (4 * LANES), whole = inner / LANES * LANES;
#define OPEN(q) vec s##q = {0};
#define GROW(q) s##q += *(const vec *)(w + k + q * LANES) * *(const vec *)(x + k + q * LANES);
    EACH4(OPEN)
    for (int64_t k = 0; k < fours; k += 4 * LANES) {
        EACH4(GROW)
    }
    for (int64_t k = fours; k < whole; k += LANES) {
        GROW(0)
    }
#undef OPEN
#undef GROW
    REAL sum = sum_lanes((s0 + s1) + (s2 + s3));
    for (int64_t k = whole; k < inner; k++) sum += w[k] * x[k];
    return sum;
}

/* A result for up to four rows. */
INLINE void once_rows(const REAL *w, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, int64_t rows) {
#define OPEN(r) vec s##r = {0}; const REAL *x##r = x + (r < rows ? r : 0) * x_stride;
#define GROW(r) s##r += a * *(const vec *)(x##r + k);
#define DONE(r) REAL y##r = sum_lanes(s##r);
#define REST(r) y##r += w[k] * x##r[k];
#define KEEP(r) if (r < rows) y[r * y_stride] = y##r;
    const int64_t whole = inner / LANES * LANES;
    EACH4(OPEN)
    for (int64_t k = 0; k < whole; k += LANES) {
        vec a = *(const vec *)(w + k);
        EACH4(GROW)
    }
    EACH4(DONE)
    for (int64_t k = whole; k < inner; k++) {
        EACH4(REST)
    }
    EACH4(KEEP)
#undef OPEN
#undef GROW
#undef DONE
#undef REST
#undef KEEP
}

/* y[r][o] = sum_k w[o][k] x[r][k] from w as it lies, which is read once for four rows. */
HELPER void product_once(const REAL *w, int64_t out, int64_t in, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner,
                         range_t own, int64_t rows) {
    if (in != 1) {
        product_few(w, out, in, x, x_stride, y, y_stride, inner, own, rows);
        return;
    }
    if (rows == 1) {
        for (int64_t o = own.from; o < own.to; o++) y[o] = once_one(w + o * out, x, inner);
        return;
    }
    for (int64_t o = own.from; o < own.to; o++)
        for (int64_t r = 0; r < rows; r += 4)
            once_rows(w + o * out, x + r * x_stride, x_stride, y + r * y_stride + o, y_stride, inner, min64(4, rows - r));
}

/* y with a y = b, by elimination with the largest pivot of a column; a [size][size], b and y [size][columns]. */
HELPER void solve(const REAL *a, const REAL *b, REAL *y, REAL *work, int64_t size, int64_t columns) {
    memcpy(work, a, sizeof(REAL) * (size_t)(size * size));
    memcpy(y, b, sizeof(REAL) * (size_t)(size * columns));
    for (int64_t k = 0; k < size; k++) {
        int64_t pivot = k;
        for (int64_t i = k + 1; i < size; i++)
            if (abs_(work[i * size + k]) > abs_(work[pivot * size + k])) pivot = i;
        for (int64_t j = k; j < size && pivot != k; j++) {
            REAL kept = work[k * size + j];
            work[k * size + j] = work[pivot * size + j];
            work[pivot * size + j] = kept;
        }
        for (int64_t j = 0; j < columns && pivot != k; j++) {
            REAL kept = y[k * columns + j];
            y[k * columns + j] = y[pivot * columns + j];
            y[pivot * columns + j] = kept;
        }
        for (int64_t i = k + 1; i < size; i++) {
            const REAL by = work[i * size + k] / work[k * size + k];
            for (int64_t j = k; j < size && by != 0; j++) work[i * size + j] -= by * work[k * size + j];
            for (int64_t j = 0; j < columns && by != 0; j++) y[i * columns + j] -= by * y[k * columns + j];
        }
    }
    for (int64_t k = size - 1; k >= 0; k--)
        for (int64_t j = 0; j < columns; j++) {
            REAL sum = y[k * columns + j];
            for (int64_t i = k + 1; i < size; i++) sum -= work[k * size + i] * y[i * columns + j];
            y[k * columns + j] = sum / work[k * size + k];
        }
}

#ifdef INT8
#ifdef __AVX2__
#include <immintrin.h>
#endif
#define GROUP 32 /* numbers of 8 bits that share a scale */

/* Add the product of a group of a row with whole numbers of 16 bits, in lanes. */
INLINE void add_group(const int8_t *w, const int16_t *x, REAL by, vec *sums) {
#if defined(__AVX512BW__)
    if (IS_FLOAT) {
        __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
        *sums += (vec)_mm512_cvtepi32_ps(_mm512_madd_epi16(wide, _mm512_loadu_si512(x))) * by;
        return;
    }
#elif defined(__AVX2__)
    if (IS_FLOAT) {
        __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
        __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(w + 16)));
        low = _mm256_madd_epi16(low, _mm256_loadu_si256((const __m256i *)x));
        high = _mm256_madd_epi16(high, _mm256_loadu_si256((const __m256i *)(x + 16)));
        *sums += (vec)_mm256_cvtepi32_ps(_mm256_add_epi32(low, high)) * by;
        return;
    }
#endif
    int32_t sum = 0;
    for (int i = 0; i < GROUP; i++) sum += (int32_t)w[i] * x[i];
    *sums += (vec){(REAL)sum * by};
}

/* x as whole numbers of 16 bits; returns what one of them is worth. */
INLINE REAL rounded(const REAL *x, int16_t *whole, int64_t size) {
    REAL most = 0;
    for (int64_t i = 0; i < size; i++) most = maximum_(most, abs_(x[i]));
    const REAL unit = most / 32767, by = most > 0 ? 32767 / most : 0;
    for (int64_t i = 0; i < size; i++) whole[i] = (int16_t)round_(minimum_(32767, maximum_(-32767, x[i] * by)));
    return unit;
}

/* product_once for whole numbers of 8 bits with a scale for each group. */
HELPER void product_int8(const int8_t *w, const REAL *scale, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner,
                         range_t own, int64_t rows) {
    const int64_t groups = inner / GROUP;
    int16_t whole[inner];
    for (int64_t r = 0; r < rows; r++) {
        const REAL unit = rounded(x + r * x_stride, whole, inner);
        REAL *to = y + r * y_stride;
        /* A row at a time: what lies in one piece is fetched before it is asked for. */
        for (int64_t o = own.from; o < own.to; o++) {
            const int8_t *row = w + o * inner;
            const REAL *by = scale + o * groups;
            const int64_t fours = groups / 4 * 4;
#define OPEN(q) vec s##q = {0};
#define GROW(q) add_group(row + (g + q) * GROUP, whole + (g + q) * GROUP, by[g + q], &s##q);
            EACH4(OPEN)
            for (int64_t g = 0; g < fours; g += 4) {
                EACH4(GROW)
            }
            for (int64_t g = fours; g < groups; g++) {
                GROW(0)
            }
#undef OPEN
#undef GROW
            to[o] = sum_lanes((s0 + s1) + (s2 + s3)) * unit;
        }
    }
}
#endif

#endif
