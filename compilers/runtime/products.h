/* Sums and products of numbers as they lie. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "team.h"

/* The sum of a few numbers in one piece. */
INLINE REAL sum_run(const REAL *x, int64_t size) {
    vec sums = {0};
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) sums += *(const vec *)(x + k);
    REAL sum = size >= LANES ? sum_lanes(sums) : 0;
    for (; k < size; k++) sum += x[k];
    return sum;
}

/* y[r][o] = sum_k w[o][k] x[r][k] from w as it lies: the element of result o and operand k at o * out + k * in, one of which is 1. */
HELPER void product_few(const REAL *w, int64_t out, int64_t in, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner,
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

#endif
