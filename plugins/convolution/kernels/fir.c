/* y[t,d] = bias[d] + sum_j w[j,d] x[t-j,d] over [B,T,D] for at most 8 taps; before the first step stands a history [B,W-1,D]. */
#include "common.h"

#define BLOCK 256
#define MOST 8

/* How many taps reach back from each step without crossing a reset. */
INLINE void reaches(const uint8_t *reset, int64_t time, int taps, uint8_t *reach) {
    int far = taps;
    for (int64_t t = 0; t < time; t++) {
        far = reset && reset[t] ? 1 : far < taps ? far + 1 : taps;
        reach[t] = (uint8_t)far;
    }
}

INLINE void forward_row(const REAL *const rows[MOST], const REAL w[MOST][BLOCK], const REAL *bias, REAL *restrict y, int64_t size,
                        const int taps) {
    for (int64_t d = 0; d < size; d++) {
        REAL sum = bias[d];
        for (int j = 0; j < taps; j++) sum += w[j][d] * rows[j][d];
        y[d] = sum;
    }
}

void fir_forward(int64_t x_, int64_t w_, int64_t bias_, int64_t history_, int64_t reset_, int64_t y_, int64_t reach_, int64_t batch,
                 int64_t time, int64_t width, int64_t taps, int64_t threads) {
    const REAL *x = PTR(REAL, x_), *w = PTR(REAL, w_), *bias = PTR(REAL, bias_), *history = PTR(REAL, history_);
    const uint8_t *reset = PTR(uint8_t, reset_);
    uint8_t *reach = PTR(uint8_t, reach_);
    REAL *y = PTR(REAL, y_);
    int64_t blocks = (width + BLOCK - 1) / BLOCK;
    for (int64_t i = 0; i < batch; i++) reaches(reset ? reset + i * time : NULL, time, (int)taps, reach + i * time);
#pragma omp parallel for collapse(2) schedule(static) num_threads(worth(batch * time * width, 65536, threads))
    for (int64_t i = 0; i < batch; i++)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t d0 = block * BLOCK, size = min64(BLOCK, width - d0);
            REAL weights[MOST][BLOCK], offset[BLOCK] = {0};
            for (int64_t j = 0; j < taps; j++) memcpy(weights[j], w + j * width + d0, (size_t)size * sizeof(REAL));
            if (bias) memcpy(offset, bias + d0, (size_t)size * sizeof(REAL));
            for (int64_t t = 0; t < time; t++) {
                const REAL *rows[MOST];
                for (int64_t j = 0; j < taps; j++)
                    rows[j] = t >= j ? x + (i * time + t - j) * width + d0 : history + (i * (taps - 1) + taps - 1 + t - j) * width + d0;
                REAL *to = y + (i * time + t) * width + d0;
                switch (reach[i * time + t]) {
                    case 1: forward_row(rows, weights, offset, to, size, 1); break;
                    case 2: forward_row(rows, weights, offset, to, size, 2); break;
                    case 3: forward_row(rows, weights, offset, to, size, 3); break;
                    case 4: forward_row(rows, weights, offset, to, size, 4); break;
                    case 5: forward_row(rows, weights, offset, to, size, 5); break;
                    case 6: forward_row(rows, weights, offset, to, size, 6); break;
                    case 7: forward_row(rows, weights, offset, to, size, 7); break;
                    default: forward_row(rows, weights, offset, to, size, 8);
                }
            }
        }
}

INLINE void backward_row(const REAL *x, const REAL *const grads[MOST], const REAL w[MOST][BLOCK], REAL dw[MOST][BLOCK],
                         REAL *restrict dx, int64_t size, const int taps) {
    for (int64_t d = 0; d < size; d++) {
        REAL sum = 0;
        for (int j = 0; j < taps; j++) {
            sum += w[j][d] * grads[j][d];
            dw[j][d] += x[d] * grads[j][d];
        }
        dx[d] = sum;
    }
}

/* dw: [B,W,D], one share per batch row. */
void fir_backward(int64_t x_, int64_t w_, int64_t history_, int64_t reach_, int64_t grad_, int64_t dx_, int64_t dw_, int64_t dhistory_,
                  int64_t batch, int64_t time, int64_t width, int64_t taps, int64_t threads) {
    const REAL *x = PTR(REAL, x_), *w = PTR(REAL, w_), *history = PTR(REAL, history_), *grad = PTR(REAL, grad_);
    const uint8_t *reach = PTR(uint8_t, reach_);
    REAL *dx = PTR(REAL, dx_), *dw = PTR(REAL, dw_), *dhistory = PTR(REAL, dhistory_);
    int64_t blocks = (width + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) schedule(static) num_threads(worth(batch * time * width, 65536, threads))
    for (int64_t i = 0; i < batch; i++)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t d0 = block * BLOCK, size = min64(BLOCK, width - d0);
            REAL weights[MOST][BLOCK], sums[MOST][BLOCK] = {{0}};
            static const REAL none[BLOCK];
            for (int64_t j = 0; j < taps; j++) memcpy(weights[j], w + j * width + d0, (size_t)size * sizeof(REAL));
            for (int64_t s = 1 - taps; s < time; s++) {
                int64_t in_history = (i * (taps - 1) + taps - 1 + s) * width + d0, in_x = (i * time + s) * width + d0;
                const REAL *grads[MOST];
                int64_t far = 0; /* steps that s reaches before the end or a reset: beyond, even NaN must not count */
                for (; far < taps && s + far < time && (s + far < 0 || reach[i * time + s + far] > far); far++)
                    grads[far] = s + far < 0 ? none : grad + (i * time + s + far) * width + d0;
                if (s + far <= 0) far = 0;
                const REAL *from = s < 0 ? history + in_history : x + in_x;
                REAL *to = s < 0 ? dhistory + in_history : dx + in_x;
                switch (far) {
                    case 0: memset(to, 0, (size_t)size * sizeof(REAL)); break;
                    case 1: backward_row(from, grads, weights, sums, to, size, 1); break;
                    case 2: backward_row(from, grads, weights, sums, to, size, 2); break;
                    case 3: backward_row(from, grads, weights, sums, to, size, 3); break;
                    case 4: backward_row(from, grads, weights, sums, to, size, 4); break;
                    case 5: backward_row(from, grads, weights, sums, to, size, 5); break;
                    case 6: backward_row(from, grads, weights, sums, to, size, 6); break;
                    case 7: backward_row(from, grads, weights, sums, to, size, 7); break;
                    default: backward_row(from, grads, weights, sums, to, size, 8);
                }
            }
            for (int64_t j = 0; j < taps; j++) memcpy(dw + (i * taps + j) * width + d0, sums[j], (size_t)size * sizeof(REAL));
        }
}
