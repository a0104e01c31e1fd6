/* h[d,n] = exp(g[t,d] L[n,d]) h[d,n] + u[t,d] b[t,n];  y[t,d] = sum_n c[t,n] h[d,n]   (L and every state lie as [N,D])

The states of all steps never exist at once: forward keeps the state at the start of every CHUNK steps, backward recomputes one chunk. */
#include "common.h"
#include <stdlib.h>

#define BLOCK 128
#define CHUNK 16

typedef REAL lane_t[BLOCK] __attribute__((aligned(64)));

INLINE lane_t *rows(int64_t count) { return aligned_alloc(64, sizeof(lane_t) * (size_t)count); }

/* Keeps infinite gates out of 0 * inf; NaN passes. */
INLINE REAL bounded(REAL x) {
    const REAL most = (REAL)1e30;
    x = -most > x ? -most : x;
    return most < x ? most : x;
}

INLINE void load(REAL *restrict to, const REAL *from, int64_t size) {
    for (int64_t d = 0; d < size; d++) to[d] = from[d];
    for (int64_t d = size; d < BLOCK; d++) to[d] = 0;
}

INLINE void load_bounded(REAL *restrict to, const REAL *from, int64_t size) {
    for (int64_t d = 0; d < size; d++) to[d] = bounded(from[d]);
    for (int64_t d = size; d < BLOCK; d++) to[d] = 0;
}

INLINE void forward(const REAL *g, const REAL *rates, const REAL *u, const REAL *b, const REAL *c, const REAL *start,
                    const uint8_t *reset, REAL *y, REAL *last, REAL *kept, int64_t batch, int64_t time, int64_t width, int64_t states,
                    int threads, const int before) {
    int64_t blocks = (width + BLOCK - 1) / BLOCK, chunks = (time + CHUNK - 1) / CHUNK;
#pragma omp parallel num_threads(worth(batch * time * width * states, 65536, threads))
    {
        lane_t *h = rows(states), *rate = rows(states);
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < batch; i++)
            for (int64_t block = 0; block < blocks; block++) {
                int64_t d0 = block * BLOCK, size = min64(BLOCK, width - d0);
                for (int64_t n = 0; n < states; n++) {
                    load_bounded(rate[n], rates + n * width + d0, size);
                    load(h[n], start + (i * states + n) * width + d0, size);
                }
                for (int64_t t = 0; t < time; t++) {
                    int64_t row = i * time + t;
                    lane_t gate, drive, sum = {0};
                    if (kept && t % CHUNK == 0)
                        for (int64_t n = 0; n < states; n++)
                            memcpy(kept + ((i * chunks + t / CHUNK) * states + n) * width + d0, h[n], (size_t)size * sizeof(REAL));
                    if (reset && reset[row]) memset(h, 0, sizeof(lane_t) * (size_t)states);
                    load_bounded(gate, g + row * width + d0, size);
                    load(drive, u + row * width + d0, size);
                    for (int64_t n = 0; n < states; n++) {
                        REAL in = b[row * states + n], out = c[row * states + n];
                        REAL *restrict state = h[n];
                        const REAL *restrict slow = rate[n];
                        for (int d = 0; d < BLOCK; d++) {
                            REAL now = exp_(gate[d] * slow[d]) * state[d] + drive[d] * in;
                            sum[d] += out * (before ? state[d] : now);
                            state[d] = now;
                        }
                    }
                    memcpy(y + row * width + d0, sum, (size_t)size * sizeof(REAL));
                }
                for (int64_t n = 0; n < states; n++) memcpy(last + (i * states + n) * width + d0, h[n], (size_t)size * sizeof(REAL));
            }
        free(h);
        free(rate);
    }
}

void selective_forward(int64_t g, int64_t rates, int64_t u, int64_t b, int64_t c, int64_t start, int64_t reset, int64_t y, int64_t last,
                       int64_t kept, int64_t batch, int64_t time, int64_t width, int64_t states, int64_t before, int64_t threads) {
    if (before)
        forward(PTR(REAL, g), PTR(REAL, rates), PTR(REAL, u), PTR(REAL, b), PTR(REAL, c), PTR(REAL, start), PTR(uint8_t, reset),
                PTR(REAL, y), PTR(REAL, last), PTR(REAL, kept), batch, time, width, states, (int)threads, 1);
    else
        forward(PTR(REAL, g), PTR(REAL, rates), PTR(REAL, u), PTR(REAL, b), PTR(REAL, c), PTR(REAL, start), PTR(uint8_t, reset),
                PTR(REAL, y), PTR(REAL, last), PTR(REAL, kept), batch, time, width, states, (int)threads, 0);
}

/* One step; here L and the state lie as [D,N]. */
void selective_step(int64_t g_, int64_t rates_, int64_t u_, int64_t b_, int64_t c_, int64_t start_, int64_t reset_, int64_t y_,
                    int64_t last_, int64_t batch, int64_t width, int64_t states, int64_t before, int64_t threads) {
    const REAL *g = PTR(REAL, g_), *rates = PTR(REAL, rates_), *u = PTR(REAL, u_), *b = PTR(REAL, b_), *c = PTR(REAL, c_);
    const REAL *start = PTR(REAL, start_);
    const uint8_t *reset = PTR(uint8_t, reset_);
    REAL *y = PTR(REAL, y_), *last = PTR(REAL, last_);
#pragma omp parallel for schedule(static) num_threads(worth(batch * width * states, 32768, threads))
    for (int64_t row = 0; row < batch * width; row++) {
        int64_t i = row / width, d = row % width;
        const REAL *restrict h = start + row * states, *restrict rate = rates + d * states;
        const REAL *restrict in = b + i * states, *restrict out = c + i * states;
        REAL *restrict to = last + row * states;
        REAL gate = bounded(g[row]), drive = u[row], sum = 0;
        int cleared = reset && reset[i];
#pragma omp simd reduction(+ : sum)
        for (int64_t n = 0; n < states; n++) {
            REAL old = cleared ? 0 : h[n];
            REAL now = exp_(gate * bounded(rate[n])) * old + drive * in[n];
            sum += out[n] * (before ? old : now);
            to[n] = now;
        }
        y[row] = sum;
    }
}

/* One step and state back, with explicit vectors: compilers keep the two sums over lanes in memory. */
INLINE void backward_row(const lane_t old_, const lane_t decay_, const lane_t slow_, const lane_t gate_, const lane_t drive_,
                         const lane_t grad_, REAL in, REAL out, lane_t back_, lane_t dslow_, lane_t dgate_, lane_t ddrive_, REAL *din,
                         REAL *dout, const int before) {
    const vec *old = (const vec *)old_, *decay = (const vec *)decay_, *slow = (const vec *)slow_, *gate = (const vec *)gate_;
    const vec *drive = (const vec *)drive_, *grad = (const vec *)grad_;
    vec *back = (vec *)back_, *dslow = (vec *)dslow_, *dgate = (vec *)dgate_, *ddrive = (vec *)ddrive_, ins = {0}, outs = {0};
    for (int d = 0; d < BLOCK / LANES; d++) {
        vec kept = decay[d] * old[d], total = back[d], seen = old[d];
        if (!before) {
            total += grad[d] * out;
            seen = kept + drive[d] * in;
        }
        vec exponent = total * kept;
        outs += grad[d] * seen;
        ins += total * drive[d];
        ddrive[d] += total * in;
        dgate[d] += exponent * slow[d];
        dslow[d] += exponent * gate[d];
        back[d] = decay[d] * total;
        if (before) back[d] += grad[d] * out;
    }
    *din += sum_lanes(ins);
    *dout += sum_lanes(outs);
}

/* flow enters as dL/dh[last] and leaves as dL/dstart. drates: [B,N,D], one share per batch row; db, dc: [threads,B,T,N], zero before. */
INLINE void backward(const REAL *g, const REAL *rates, const REAL *u, const REAL *b, const REAL *c, const uint8_t *reset,
                     const REAL *kept, const REAL *dy, REAL *dg, REAL *drates, REAL *du, REAL *all_db, REAL *all_dc, REAL *flow,
                     int64_t batch, int64_t time, int64_t width, int64_t states, int threads, const int before) {
    int64_t blocks = (width + BLOCK - 1) / BLOCK, chunks = (time + CHUNK - 1) / CHUNK;
    size_t row_size = sizeof(lane_t) * (size_t)states;
#pragma omp parallel num_threads(worth(batch * time * width * states, 65536, threads))
    {
        lane_t *h = rows(states), *rate = rows(states), *delta = rows(states), *drate = rows(states);
        lane_t *olds = rows(states * CHUNK), *decays = rows(states * CHUNK);
        REAL *db = all_db + THREAD * batch * time * states, *dc = all_dc + THREAD * batch * time * states;
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < batch; i++)
            for (int64_t block = 0; block < blocks; block++) {
                int64_t d0 = block * BLOCK, size = min64(BLOCK, width - d0);
                memset(drate, 0, row_size);
                for (int64_t n = 0; n < states; n++) {
                    load_bounded(rate[n], rates + n * width + d0, size);
                    load(delta[n], flow + (i * states + n) * width + d0, size);
                }
                for (int64_t chunk = chunks - 1; chunk >= 0; chunk--) {
                    int64_t t0 = chunk * CHUNK, steps = min64(CHUNK, time - t0);
                    lane_t gate, drive, grad;
                    for (int64_t n = 0; n < states; n++) load(h[n], kept + ((i * chunks + chunk) * states + n) * width + d0, size);
                    for (int64_t k = 0; k < steps; k++) {
                        int64_t row = i * time + t0 + k;
                        if (reset && reset[row]) memset(h, 0, row_size);
                        load_bounded(gate, g + row * width + d0, size);
                        load(drive, u + row * width + d0, size);
                        for (int64_t n = 0; n < states; n++) {
                            REAL in = b[row * states + n];
                            REAL *restrict state = h[n], *restrict old = olds[k * states + n], *restrict decay = decays[k * states + n];
                            const REAL *restrict slow = rate[n];
                            for (int d = 0; d < BLOCK; d++) {
                                old[d] = state[d];
                                decay[d] = exp_(gate[d] * slow[d]);
                                state[d] = decay[d] * state[d] + drive[d] * in;
                            }
                        }
                    }
                    for (int64_t k = steps - 1; k >= 0; k--) {
                        int64_t row = i * time + t0 + k;
                        lane_t dgate = {0}, ddrive = {0};
                        load_bounded(gate, g + row * width + d0, size);
                        load(drive, u + row * width + d0, size);
                        load(grad, dy + row * width + d0, size);
                        for (int64_t n = 0; n < states; n++)
                            backward_row(olds[k * states + n], decays[k * states + n], rate[n], gate, drive, grad, b[row * states + n],
                                         c[row * states + n], delta[n], drate[n], dgate, ddrive, db + row * states + n,
                                         dc + row * states + n, before);
                        memcpy(dg + row * width + d0, dgate, (size_t)size * sizeof(REAL));
                        memcpy(du + row * width + d0, ddrive, (size_t)size * sizeof(REAL));
                        if (reset && reset[row]) memset(delta, 0, row_size);
                    }
                }
                for (int64_t n = 0; n < states; n++) {
                    int64_t at = (i * states + n) * width + d0;
                    memcpy(flow + at, delta[n], (size_t)size * sizeof(REAL));
                    memcpy(drates + at, drate[n], (size_t)size * sizeof(REAL));
                }
            }
        free(h), free(rate), free(delta), free(drate), free(olds), free(decays);
    }
}

void selective_backward(int64_t g, int64_t rates, int64_t u, int64_t b, int64_t c, int64_t reset, int64_t kept, int64_t dy, int64_t dg,
                        int64_t drates, int64_t du, int64_t db, int64_t dc, int64_t flow, int64_t batch, int64_t time, int64_t width,
                        int64_t states, int64_t before, int64_t threads) {
    if (before)
        backward(PTR(REAL, g), PTR(REAL, rates), PTR(REAL, u), PTR(REAL, b), PTR(REAL, c), PTR(uint8_t, reset), PTR(REAL, kept),
                 PTR(REAL, dy), PTR(REAL, dg), PTR(REAL, drates), PTR(REAL, du), PTR(REAL, db), PTR(REAL, dc), PTR(REAL, flow), batch,
                 time, width, states, (int)threads, 1);
    else
        backward(PTR(REAL, g), PTR(REAL, rates), PTR(REAL, u), PTR(REAL, b), PTR(REAL, c), PTR(uint8_t, reset), PTR(REAL, kept),
                 PTR(REAL, dy), PTR(REAL, dg), PTR(REAL, drates), PTR(REAL, du), PTR(REAL, db), PTR(REAL, dc), PTR(REAL, flow), batch,
                 time, width, states, (int)threads, 0);
}
