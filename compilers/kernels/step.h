/* What the steps of models share. */
#ifndef STEP_H
#define STEP_H

#include "loops.h"

/* One step of `rows` sequences. Of each group of registers: the entries in use before it, and those that there is room for. */
typedef struct {
    int64_t rows;
    const int64_t *position, *used, *room;
    int64_t fault;
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
#define EACH8(do) EACH4(do) do(4) do(5) do(6) do(7)

/* Eight results for one row. */
INLINE void once_eight(const REAL *w, int64_t out, const REAL *x, REAL *y, int64_t inner) {
#define OPEN(q) vec s##q = {0}; const REAL *w##q = w + q * out;
#define GROW(q) s##q += a * *(const vec *)(w##q + k);
#define DONE(q) y[q] = sum_lanes(s##q);
#define REST(q) y[q] += a * w##q[k];
    EACH8(OPEN)
    int64_t k = 0;
    for (; k + LANES <= inner; k += LANES) {
        vec a = *(const vec *)(x + k);
        EACH8(GROW)
    }
    EACH8(DONE)
    for (; k < inner; k++) {
        REAL a = x[k];
        EACH8(REST)
    }
#undef OPEN
#undef GROW
#undef DONE
#undef REST
}

/* A result for up to four rows. */
INLINE void once_rows(const REAL *w, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner, int64_t rows) {
#define OPEN(r) vec s##r = {0}; const REAL *x##r = x + (r < rows ? r : 0) * x_stride;
#define GROW(r) s##r += a * *(const vec *)(x##r + k);
#define DONE(r) REAL y##r = sum_lanes(s##r);
#define REST(r) y##r += w[k] * x##r[k];
#define KEEP(r) if (r < rows) y[r * y_stride] = y##r;
    EACH4(OPEN)
    int64_t k = 0;
    for (; k + LANES <= inner; k += LANES) {
        vec a = *(const vec *)(w + k);
        EACH4(GROW)
    }
    EACH4(DONE)
    for (; k < inner; k++) {
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
static void product_once(const REAL *w, int64_t out, int64_t in, const REAL *x, int64_t x_stride, REAL *y, int64_t y_stride, int64_t inner,
                         range_t own, int64_t rows) {
    if (in != 1) {
        product_few(w, out, in, x, x_stride, y, y_stride, inner, own, rows);
        return;
    }
    if (rows == 1) {
        int64_t o = own.from;
        for (; o + 8 <= own.to; o += 8) once_eight(w + o * out, out, x, y + o, inner);
        for (; o < own.to; o++) once_rows(w + o * out, x, x_stride, y + o, y_stride, inner, 1);
        return;
    }
    for (int64_t o = own.from; o < own.to; o++)
        for (int64_t r = 0; r < rows; r += 4)
            once_rows(w + o * out, x + r * x_stride, x_stride, y + r * y_stride + o, y_stride, inner, min64(4, rows - r));
}

#endif
