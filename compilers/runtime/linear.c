/* y[m,n] = bias[n] + sum_k x[m,k] w[n,k] for a few rows m: w is read once, at the speed of memory. And a transposed copy. */
#include "common.h"

#define TILE 32

INLINE vec load_part(const REAL *from, int64_t count) {
    REAL parts[VECTOR / sizeof(REAL)] = {0};
    vec v;
    for (int64_t i = 0; i < count; i++) parts[i] = from[i];
    memcpy(&v, parts, sizeof v);
    return v;
}

/* `outs` rows of w against `rows` rows of x. */
INLINE void block(const REAL *x, const REAL *w, const REAL *bias, REAL *y, int64_t inner, int64_t outer, const int rows, const int outs) {
    vec sums[4][4] = {0};
    int64_t k = 0;
    for (; k + LANES <= inner; k += LANES)
        for (int n = 0; n < outs; n++) {
            vec weight = *(const vec *)(w + n * inner + k);
            __builtin_prefetch(w + n * inner + k + 32 * LANES);
            for (int m = 0; m < rows; m++) sums[n][m] += weight * *(const vec *)(x + m * inner + k);
        }
    if (k < inner)
        for (int n = 0; n < outs; n++) {
            vec weight = load_part(w + n * inner + k, inner - k);
            for (int m = 0; m < rows; m++) sums[n][m] += weight * load_part(x + m * inner + k, inner - k);
        }
    for (int n = 0; n < outs; n++)
        for (int m = 0; m < rows; m++) y[m * outer + n] = sum_lanes(sums[n][m]) + (bias ? bias[n] : 0);
}

INLINE void range(const REAL *x, const REAL *w, const REAL *bias, REAL *y, int64_t inner, int64_t outer, int64_t from, int64_t to,
                  const int rows) {
    int64_t n = from;
    for (; n + 4 <= to; n += 4) block(x, w + n * inner, bias ? bias + n : bias, y + n, inner, outer, rows, 4);
    for (; n < to; n++) block(x, w + n * inner, bias ? bias + n : bias, y + n, inner, outer, rows, 1);
}

void few_rows(int64_t x_, int64_t w_, int64_t bias_, int64_t y_, int64_t rows, int64_t inner, int64_t outer, int64_t threads) {
    const REAL *x = PTR(REAL, x_), *w = PTR(REAL, w_), *bias = PTR(REAL, bias_);
    REAL *y = PTR(REAL, y_);
    const int64_t strip = 64; /* rows of w that serve all rows of x while they are in the cache */
#pragma omp parallel for schedule(static) num_threads(worth(inner * outer, 32768, threads))
    for (int64_t n = 0; n < outer; n += strip)
        for (int64_t m = 0; m < rows; m += 4) {
            const REAL *from = x + m * inner;
            REAL *to = y + m * outer;
            int64_t end = min64(n + strip, outer);
            switch (min64(4, rows - m)) {
                case 1: range(from, w, bias, to, inner, outer, n, end, 1); break;
                case 2: range(from, w, bias, to, inner, outer, n, end, 2); break;
                case 3: range(from, w, bias, to, inner, outer, n, end, 3); break;
                default: range(from, w, bias, to, inner, outer, n, end, 4);
            }
        }
}

/* to[j,i] = from[i,j]; from: [rows,columns]. */
void transpose(int64_t from_, int64_t to_, int64_t rows, int64_t columns, int64_t threads) {
    const REAL *from = PTR(REAL, from_);
    REAL *to = PTR(REAL, to_);
#pragma omp parallel for schedule(static) num_threads(worth(rows * columns, 65536, threads))
    for (int64_t j0 = 0; j0 < columns; j0 += TILE)
        for (int64_t i0 = 0; i0 < rows; i0 += TILE) {
            int64_t i1 = min64(i0 + TILE, rows), j1 = min64(j0 + TILE, columns);
            REAL tile[TILE][TILE];
            for (int64_t i = i0; i < i1; i++)
                for (int64_t j = j0; j < j1; j++) tile[j - j0][i - i0] = from[i * columns + j];
            for (int64_t j = j0; j < j1; j++) memcpy(to + j * rows + i0, tile[j - j0], (size_t)(i1 - i0) * sizeof(REAL));
        }
}
