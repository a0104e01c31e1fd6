/* Gated cells and gated averages (recurrent.py) over all steps. Everything that does not depend on the last output is done before, for all steps at once.

Each thread owns some units: it computes their gates from the whole last h, so one barrier per step is all the threads share.
R is first laid out in the order in which it is read: tiles of LANES units with all their gates for the forward pass, tiles of
4 * LANES columns for the backward pass. For a few steps that would cost more than it gives; there R is read as it lies. */
#include "common.h"
#include <sched.h>
#include <stdlib.h>

#define MOST_ROWS 4
#define COLUMNS 4
#define FEW_STEPS 8
#define CELL 4
#define AVERAGE 3

typedef REAL lane_t[VECTOR / sizeof(REAL)];

INLINE void wait_for_all(int64_t *arrived, int64_t *round) {
    if (THREADS == 1) return;
    int64_t target = ++*round * THREADS;
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int spins = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < target; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins > 2000) sched_yield(); /* somebody else has the core that we wait for */
    }
}

/* Each thread wants enough of R to read per step that a barrier does not matter, and a processor, lest the others wait. */
INLINE int team(int64_t gates, int64_t width, int64_t batch, int64_t tiles, int64_t threads) {
    return worth(gates * width * width * min64(batch, MOST_ROWS), 32768, min64(min64(threads, PROCESSORS), tiles));
}

/* sums[r][q] = sum_k packed[k][q] rows[r][k] */
INLINE void multiply(const REAL *packed, const REAL *const *rows, int64_t inner, lane_t sums[MOST_ROWS][COLUMNS], const int count,
                     const int columns) {
    vec even[MOST_ROWS][COLUMNS] = {0}, odd[MOST_ROWS][COLUMNS] = {0};
    int64_t k = 0;
    for (; k + 2 <= inner; k += 2) {
        const vec *first = (const vec *)(packed + k * columns * LANES), *second = first + columns;
        for (int r = 0; r < count; r++) {
            REAL x = rows[r][k], y = rows[r][k + 1];
            /* Two sets of sums hide the latency where there are few rows; with many rows they would not fit the registers. */
            for (int q = 0; q < columns; q++) even[r][q] += first[q] * x;
            if (count < 3)
                for (int q = 0; q < columns; q++) odd[r][q] += second[q] * y;
            else
                for (int q = 0; q < columns; q++) even[r][q] += second[q] * y;
        }
    }
    if (k < inner)
        for (int r = 0; r < count; r++)
            for (int q = 0; q < columns; q++) even[r][q] += ((const vec *)(packed + k * columns * LANES))[q] * rows[r][k];
    for (int r = 0; r < count; r++)
        for (int q = 0; q < columns; q++) {
            vec sum = even[r][q] + odd[r][q];
            memcpy(sums[r][q], &sum, sizeof sum);
        }
}

INLINE void multiply_rows(const REAL *packed, const REAL *const *rows, int64_t inner, lane_t sums[MOST_ROWS][COLUMNS], int64_t count,
                          const int columns) {
    switch (count) {
        case 1: multiply(packed, rows, inner, sums, 1, columns); break;
        case 2: multiply(packed, rows, inner, sums, 2, columns); break;
        case 3: multiply(packed, rows, inner, sums, 3, columns); break;
        default: multiply(packed, rows, inner, sums, 4, columns);
    }
}

INLINE REAL dot(const REAL *a, const REAL *b, int64_t size) {
    vec even = {0}, odd = {0};
    int64_t k = 0;
    for (; k + 2 * LANES <= size; k += 2 * LANES) {
        even += *(const vec *)(a + k) * *(const vec *)(b + k);
        odd += *(const vec *)(a + k + LANES) * *(const vec *)(b + k + LANES);
    }
    REAL sum = sum_lanes(even + odd);
    for (; k < size; k++) sum += a[k] * b[k];
    return sum;
}

/* The same sums from R [gates,H,H] as it lies, for `count` units from `unit`. */
INLINE void multiply_few(const REAL *R, const REAL *const *rows, int64_t width, int64_t unit, int64_t size, lane_t sums[MOST_ROWS][COLUMNS],
                         int64_t count, const int gates) {
    for (int q = 0; q < gates; q++)
        for (int64_t n = 0; n < LANES; n++)
            for (int64_t r = 0; r < count; r++)
                sums[r][q][n] = n < size ? dot(R + (q * width + unit + n) * width, rows[r], width) : 0;
}

INLINE void load(REAL *restrict to, const REAL *from, int64_t size) {
    for (int64_t n = 0; n < size; n++) to[n] = from[n];
    for (int64_t n = size; n < LANES; n++) to[n] = 0;
}

INLINE void forward(const REAL *gates, const REAL *R, const REAL *bn, const REAL *h0, const REAL *c0, const uint8_t *reset, REAL *h,
                    REAL *c, int64_t batch, int64_t time, int64_t width, int64_t threads, const int kind) {
    int64_t tiles = (width + LANES - 1) / LANES, tile_size = width * kind * LANES, arrived = 0;
    int few = batch * time <= FEW_STEPS;
    REAL *packed = few ? NULL : aligned_alloc(64, (size_t)(tiles * tile_size) * sizeof(REAL));
    REAL *nothing = calloc((size_t)width, sizeof(REAL));
#pragma omp parallel num_threads(team(kind, width, batch, tiles, threads))
    {
        int64_t from = tiles * THREAD / THREADS, to = tiles * (THREAD + 1) / THREADS, round = 0;
        for (int64_t tile = from; tile < to && packed; tile++)
            for (int gate = 0; gate < kind; gate++)
                for (int64_t n = 0; n < LANES; n++) {
                    int64_t unit = tile * LANES + n;
                    const REAL *source = unit < width ? R + (gate * width + unit) * width : nothing;
                    REAL *target = packed + tile * tile_size + gate * LANES + n;
                    for (int64_t k = 0; k < width; k++) target[k * kind * LANES] = source[k];
                }
        for (int64_t t = 0; t < time; t++) {
            for (int64_t tile = from; tile < to; tile++) {
                int64_t unit = tile * LANES, size = min64(LANES, width - unit);
                for (int64_t i0 = 0; i0 < batch; i0 += MOST_ROWS) {
                    int64_t count = min64(MOST_ROWS, batch - i0);
                    const REAL *last[MOST_ROWS], *last_c[MOST_ROWS];
                    lane_t sums[MOST_ROWS][COLUMNS];
                    for (int64_t r = 0; r < count; r++) {
                        int64_t i = i0 + r, row = i * time + t;
                        int cleared = reset && reset[row];
                        last[r] = cleared ? nothing : t ? h + (row - 1) * width : h0 + i * width;
                        if (kind == CELL) last_c[r] = cleared ? nothing : t ? c + (row - 1) * width : c0 + i * width;
                    }
                    if (packed)
                        multiply_rows(packed + tile * tile_size, last, width, sums, count, kind);
                    else
                        multiply_few(R, last, width, unit, size, sums, count, kind);
                    for (int64_t r = 0; r < count; r++) {
                        int64_t row = (i0 + r) * time + t;
                        lane_t x[COLUMNS], memory, out, cell, offset;
                        for (int gate = 0; gate < kind; gate++) load(x[gate], gates + (row * kind + gate) * width + unit, size);
                        load(memory, (kind == CELL ? last_c[r] : last[r]) + unit, size);
                        if (kind == AVERAGE) load(offset, bn + unit, size);
                        for (int n = 0; n < LANES; n++) {
                            if (kind == CELL) {
                                REAL in = sigmoid_(x[0][n] + sums[r][0][n]), forget = sigmoid_(x[1][n] + sums[r][1][n]);
                                cell[n] = forget * memory[n] + in * tanh_(x[2][n] + sums[r][2][n]);
                                out[n] = sigmoid_(x[3][n] + sums[r][3][n]) * tanh_(cell[n]);
                            } else {
                                REAL open = sigmoid_(x[0][n] + sums[r][0][n]), keep = sigmoid_(x[1][n] + sums[r][1][n]);
                                REAL new = tanh_(x[2][n] + open * (sums[r][2][n] + offset[n]));
                                out[n] = new + keep * (memory[n] - new);
                            }
                        }
                        memcpy(h + row * width + unit, out, (size_t)size * sizeof(REAL));
                        if (kind == CELL) memcpy(c + row * width + unit, cell, (size_t)size * sizeof(REAL));
                    }
                }
            }
            wait_for_all(&arrived, &round);
        }
    }
    free(packed);
    free(nothing);
}

void gated_cell_forward(int64_t gates, int64_t R, int64_t h0, int64_t c0, int64_t reset, int64_t h, int64_t c, int64_t batch, int64_t time,
                  int64_t width, int64_t threads) {
    forward(PTR(REAL, gates), PTR(REAL, R), NULL, PTR(REAL, h0), PTR(REAL, c0), PTR(uint8_t, reset), PTR(REAL, h), PTR(REAL, c), batch,
            time, width, threads, CELL);
}

void gated_average_forward(int64_t gates, int64_t R, int64_t bn, int64_t h0, int64_t reset, int64_t h, int64_t batch, int64_t time, int64_t width,
                 int64_t threads) {
    forward(PTR(REAL, gates), PTR(REAL, R), PTR(REAL, bn), PTR(REAL, h0), NULL, PTR(uint8_t, reset), PTR(REAL, h), NULL, batch, time,
            width, threads, AVERAGE);
}

/* gates + recurrent are the preactivations. On return recurrent [B,T,gates,H] holds the gradients of what R gave; dn [B,T,H] (AVERAGE only)
   that of n's own preactivation. dh0 and dc0 enter as 0 and carry the gradients back through the steps. */
INLINE void backward(const REAL *gates, REAL *recurrent, const REAL *R, const REAL *bn, const REAL *h, const REAL *h0, const REAL *c,
                     const REAL *c0, const uint8_t *reset, const REAL *dh, const REAL *dc, REAL *dn, REAL *dh0, REAL *dc0, int64_t batch,
                     int64_t time, int64_t width, int64_t threads, const int kind) {
    int64_t step = COLUMNS * LANES, tiles = (width + step - 1) / step, inner = kind * width, arrived = 0;
    REAL *packed = aligned_alloc(64, (size_t)(tiles * inner * step) * sizeof(REAL));
    REAL *nothing = calloc((size_t)width, sizeof(REAL));
#pragma omp parallel num_threads(team(kind, width, batch, tiles, threads))
    {
        int64_t from = tiles * THREAD / THREADS, to = tiles * (THREAD + 1) / THREADS, round = 0;
        int64_t first = min64(from * step, width), end = min64(to * step, width);
        for (int64_t tile = from; tile < to; tile++)
            for (int64_t k = 0; k < inner; k++) {
                REAL *target = packed + (tile * inner + k) * step;
                int64_t size = min64(step, width - tile * step);
                memset(target, 0, (size_t)step * sizeof(REAL));
                memcpy(target, R + k * width + tile * step, (size_t)size * sizeof(REAL));
            }
        for (int64_t t = time - 1; t >= 0; t--) {
            for (int64_t i = 0; i < batch; i++) {
                int64_t row = i * time + t;
                int cleared = reset && reset[row];
                const REAL *last = cleared ? nothing : t ? h + (row - 1) * width : h0 + i * width;
                const REAL *last_c = kind != CELL || cleared ? nothing : t ? c + (row - 1) * width : c0 + i * width;
                for (int64_t unit = first; unit < end; unit += LANES) {
                    int64_t size = min64(LANES, end - unit);
                    lane_t x[COLUMNS], z[COLUMNS], memory, cell, back, back_c, extra;
                    for (int gate = 0; gate < kind; gate++) {
                        load(x[gate], gates + (row * kind + gate) * width + unit, size);
                        load(z[gate], recurrent + (row * kind + gate) * width + unit, size);
                    }
                    load(back, dh0 + i * width + unit, size);
                    load(extra, dh + row * width + unit, size);
                    for (int n = 0; n < LANES; n++) back[n] += extra[n];
                    if (kind == CELL) {
                        load(memory, last_c + unit, size);
                        load(cell, c + row * width + unit, size);
                        load(back_c, dc0 + i * width + unit, size);
                        load(extra, dc + row * width + unit, size);
                        for (int n = 0; n < LANES; n++) {
                            REAL in = sigmoid_(x[0][n] + z[0][n]), forget = sigmoid_(x[1][n] + z[1][n]);
                            REAL new = tanh_(x[2][n] + z[2][n]), out = sigmoid_(x[3][n] + z[3][n]), seen = tanh_(cell[n]);
                            REAL through = back_c[n] + extra[n] + back[n] * out * (1 - seen * seen);
                            z[0][n] = through * new * in * (1 - in);
                            z[1][n] = through * memory[n] * forget * (1 - forget);
                            z[2][n] = through * in * (1 - new * new);
                            z[3][n] = back[n] * seen * out * (1 - out);
                            back_c[n] = cleared ? 0 : through * forget;
                            back[n] = 0;
                        }
                        memcpy(dc0 + i * width + unit, back_c, (size_t)size * sizeof(REAL));
                    } else {
                        load(memory, last + unit, size);
                        load(extra, bn + unit, size);
                        for (int n = 0; n < LANES; n++) {
                            REAL open = sigmoid_(x[0][n] + z[0][n]), keep = sigmoid_(x[1][n] + z[1][n]);
                            REAL held = z[2][n] + extra[n], new = tanh_(x[2][n] + open * held);
                            REAL dnew = back[n] * (1 - keep) * (1 - new * new);
                            z[0][n] = dnew * held * open * (1 - open);
                            z[1][n] = back[n] * (memory[n] - new) * keep * (1 - keep);
                            z[2][n] = dnew * open;
                            extra[n] = dnew;
                            back[n] *= keep;
                        }
                        memcpy(dn + row * width + unit, extra, (size_t)size * sizeof(REAL));
                    }
                    memcpy(dh0 + i * width + unit, back, (size_t)size * sizeof(REAL));
                    for (int gate = 0; gate < kind; gate++)
                        memcpy(recurrent + (row * kind + gate) * width + unit, z[gate], (size_t)size * sizeof(REAL));
                }
            }
            wait_for_all(&arrived, &round);
            for (int64_t tile = from; tile < to; tile++)
                for (int64_t i0 = 0; i0 < batch; i0 += MOST_ROWS) {
                    int64_t count = min64(MOST_ROWS, batch - i0), unit = tile * step, size = min64(step, width - unit);
                    const REAL *rows[MOST_ROWS];
                    lane_t sums[MOST_ROWS][COLUMNS];
                    for (int64_t r = 0; r < count; r++) rows[r] = recurrent + ((i0 + r) * time + t) * inner;
                    multiply_rows(packed + tile * inner * step, rows, inner, sums, count, COLUMNS);
                    for (int64_t r = 0; r < count; r++) {
                        int cleared = reset && reset[(i0 + r) * time + t];
                        REAL *back = dh0 + (i0 + r) * width + unit;
                        const REAL *sum = sums[r][0];
                        for (int64_t n = 0; n < size; n++) back[n] = cleared ? 0 : back[n] + sum[n];
                    }
                }
        }
    }
    free(packed);
    free(nothing);
}

void gated_cell_backward(int64_t gates, int64_t recurrent, int64_t R, int64_t h, int64_t h0, int64_t c, int64_t c0, int64_t reset, int64_t dh,
                   int64_t dc, int64_t dh0, int64_t dc0, int64_t batch, int64_t time, int64_t width, int64_t threads) {
    backward(PTR(REAL, gates), PTR(REAL, recurrent), PTR(REAL, R), NULL, PTR(REAL, h), PTR(REAL, h0), PTR(REAL, c), PTR(REAL, c0),
             PTR(uint8_t, reset), PTR(REAL, dh), PTR(REAL, dc), NULL, PTR(REAL, dh0), PTR(REAL, dc0), batch, time, width, threads, CELL);
}

void gated_average_backward(int64_t gates, int64_t recurrent, int64_t R, int64_t bn, int64_t h, int64_t h0, int64_t reset, int64_t dh, int64_t dn,
                  int64_t dh0, int64_t batch, int64_t time, int64_t width, int64_t threads) {
    backward(PTR(REAL, gates), PTR(REAL, recurrent), PTR(REAL, R), PTR(REAL, bn), PTR(REAL, h), PTR(REAL, h0), NULL, NULL,
             PTR(uint8_t, reset), PTR(REAL, dh), NULL, PTR(REAL, dn), PTR(REAL, dh0), NULL, batch, time, width, threads, AVERAGE);
}
