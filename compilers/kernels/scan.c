/* h[t] = a[t] * h[t-1] + b[t] and h[t] = max(a[t] + h[t-1], b[t]) over [B,T,D], with memory cleared where reset is true. */
#include "common.h"

#define BLOCK 512

typedef struct {
    const REAL *a, *b, *start, *clear, *h;
    const uint8_t *reset;
    int64_t batch, time, width, a_batch, a_time;
} scan_t;

INLINE void forward(scan_t s, REAL *h, int maximum, int threads) {
    int64_t blocks = (s.width + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) schedule(static) num_threads(worth(s.batch * s.time * s.width, 65536, threads))
    for (int64_t i = 0; i < s.batch; i++)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t d0 = block * BLOCK, size = min64(BLOCK, s.width - d0);
            const REAL *restrict previous = s.start + i * s.width + d0;
            for (int64_t t = 0; t < s.time; t++) {
                const REAL *restrict a = s.a + i * s.a_batch + t * s.a_time + d0;
                const REAL *restrict b = s.b + (i * s.time + t) * s.width + d0;
                REAL *restrict now = h + (i * s.time + t) * s.width + d0;
                if (s.reset && s.reset[i * s.time + t]) previous = s.clear + d0;
                if (maximum)
                    for (int64_t d = 0; d < size; d++) {
                        REAL moved = a[d] + previous[d];
                        REAL larger = moved > b[d] ? moved : b[d];
                        now[d] = moved != moved ? moved : larger;
                    }
                else
                    for (int64_t d = 0; d < size; d++) now[d] = a[d] * previous[d] + b[d];
                previous = now;
            }
        }
}

/* grad enters as dL/dh[t] and leaves as db; start and clear get their gradients per batch row. */
INLINE void backward(scan_t s, const REAL *grad, REAL *da, REAL *db, REAL *dstart, REAL *dclear, int maximum, int threads) {
    int64_t blocks = (s.width + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(2) schedule(static) num_threads(worth(s.batch * s.time * s.width, 65536, threads))
    for (int64_t i = 0; i < s.batch; i++)
        for (int64_t block = 0; block < blocks; block++) {
            int64_t d0 = block * BLOCK, size = min64(BLOCK, s.width - d0);
            REAL flow[BLOCK] = {0};
            REAL *restrict dclear_row = dclear + i * s.width + d0;
            for (int64_t t = s.time - 1; t >= 0; t--) {
                int64_t at = (i * s.time + t) * s.width + d0;
                int cleared = s.reset && s.reset[i * s.time + t];
                const REAL *restrict a = s.a + i * s.a_batch + t * s.a_time + d0;
                const REAL *restrict previous = cleared ? s.clear + d0 : t ? s.h + at - s.width : s.start + i * s.width + d0;
                const REAL *restrict b = s.b + at, *restrict g = grad + at;
                REAL *restrict da_row = da + at, *restrict db_row = db + at;
                if (maximum)
                    for (int64_t d = 0; d < size; d++) {
                        REAL moved = a[d] + previous[d], delta = flow[d] + g[d];
                        REAL share = moved > b[d] ? (REAL)1 : moved == b[d] ? (REAL)0.5 : (REAL)0;
                        da_row[d] = flow[d] = delta * share;
                        db_row[d] = delta * ((REAL)1 - share);
                    }
                else
                    for (int64_t d = 0; d < size; d++) {
                        REAL delta = flow[d] + g[d];
                        db_row[d] = delta;
                        da_row[d] = delta * previous[d];
                        flow[d] = a[d] * delta;
                    }
                if (cleared)
                    for (int64_t d = 0; d < size; d++) {
                        dclear_row[d] += flow[d];
                        flow[d] = 0;
                    }
            }
            memcpy(dstart + i * s.width + d0, flow, (size_t)size * sizeof(REAL));
        }
}

void scan_forward(int64_t a, int64_t b, int64_t start, int64_t clear, int64_t reset, int64_t h, int64_t batch, int64_t time,
                  int64_t width, int64_t a_batch, int64_t a_time, int64_t maximum, int64_t threads) {
    scan_t s = {PTR(REAL, a), PTR(REAL, b), PTR(REAL, start), PTR(REAL, clear), NULL, PTR(uint8_t, reset),
                batch, time, width, a_batch, a_time};
    if (maximum)
        forward(s, PTR(REAL, h), 1, (int)threads);
    else
        forward(s, PTR(REAL, h), 0, (int)threads);
}

void scan_backward(int64_t a, int64_t b, int64_t start, int64_t clear, int64_t reset, int64_t h, int64_t grad, int64_t da, int64_t db,
                   int64_t dstart, int64_t dclear, int64_t batch, int64_t time, int64_t width, int64_t a_batch, int64_t a_time,
                   int64_t maximum, int64_t threads) {
    scan_t s = {PTR(REAL, a), PTR(REAL, b), PTR(REAL, start), PTR(REAL, clear), PTR(REAL, h), PTR(uint8_t, reset),
                batch, time, width, a_batch, a_time};
    if (maximum)
        backward(s, PTR(REAL, grad), PTR(REAL, da), PTR(REAL, db), PTR(REAL, dstart), PTR(REAL, dclear), 1, (int)threads);
    else
        backward(s, PTR(REAL, grad), PTR(REAL, da), PTR(REAL, db), PTR(REAL, dstart), PTR(REAL, dclear), 0, (int)threads);
}
