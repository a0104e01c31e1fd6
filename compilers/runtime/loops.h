/* What compiled loops over time share: products with matrices that are first laid out as they are read, columns of LANES results. For a few
steps that would cost more than it gives; there they are read as they lie. */
#ifndef LOOPS_H
#define LOOPS_H

#include "functions.h"
#include "products.h"
#include "team.h"
#include <stdlib.h>

#define FEW_STEPS 8

INLINE void product_tile(const REAL *packed, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, const int rows,
                         const int columns) {
    vec even[8][4] = {{{0}}}, odd[8][4] = {{{0}}};
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
        case 4: product_tile(packed, x, x_stride, y, y_stride, inner, 4, columns); break;
        case 8: if (columns < 3) product_tile(packed, x, x_stride, y, y_stride, inner, 8, columns);
    }
}

/* y[r][o] = sum_k w[o][k] x[r][k] for o in a part that begins at a multiple of LANES; w as `pack` lays it out. */
HELPER void product(const REAL *packed, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, range_t own,
                    int64_t rows) {
    int64_t whole = own.from + (own.to - own.from) / LANES * LANES;
    for (int64_t r = 0, count; r < rows; r += count) {
        count = rows - r == 8 ? 8 : min64(4, rows - r); /* eight rows by two columns read half the weights of twice four by four */
        const REAL *from = x + r * x_stride;
        REAL *to = y + r * y_stride;
        for (int64_t o = own.from; o < whole;) {
            int64_t columns = min64(count == 8 ? 2 : 4, (whole - o) / LANES);
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
            REAL rest[8 * LANES];
            product_rows(packed + whole * inner, from, x_stride, rest, LANES, inner, count, 1);
            for (int64_t i = 0; i < count; i++)
                for (int64_t o = whole; o < own.to; o++) to[i * y_stride + o] = rest[i * LANES + o - whole];
        }
    }
}

/* w [results, operands] with these strides as columns of LANES results: [results / LANES][operands][LANES]; one member's share of it. */
HELPER void pack(const REAL *w, int64_t out, int64_t in, REAL *packed, int64_t results, int64_t inner, int64_t rank, int64_t team) {
    for (int64_t column = rank; column * LANES < results; column += team)
        for (int64_t lane = 0; lane < LANES; lane++) {
            int64_t o = column * LANES + lane;
            REAL *to = packed + column * inner * LANES + lane;
            for (int64_t k = 0; k < inner; k++) to[k * LANES] = o < results ? w[o * out + k * in] : 0;
        }
}

#endif
