/* softmax(scale q k^T) v where every query sees a run of entries, block by block: scores are never written to memory, blocks that
   nobody sees are not looked at, and what a query does not see has no part in its sums, be it NaN.
   q: [B,T,H*G,K], k: [B,N,H,K], v: [B,N,H,V], with the last axis contiguous and strides for the others. first, last: [B,T], the
   first and the last entry that a query sees; without them it sees all up to its own, the queries being the last of the entries.
   bias: [H*G,reach], what is added to a score by the distance from the last entry that its query sees, the farthest first, with BLOCK
   zeros on either side. */
#include "common.h"

#if VECTOR == 64
#define VECS 4
#else
#define VECS 2
#endif
#define ROWS 6
#define BLOCK 64  /* queries, and keys, that meet at once */
#define WIDEST 256

typedef struct {
    int64_t batch, time, head;
} Strides;

/* c[rows, vecs] (+)= a b: a(r,p) lies at a[r*row + p*step], b(p,n) at b[p*ldb + n]. */
INLINE void micro(const REAL *a, int64_t row, int64_t step, const REAL *b, int64_t ldb, REAL *c, int64_t ldc, int64_t inner, int add,
                  const int rows, const int vecs) {
    vec sums[ROWS][VECS];
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < vecs; n++) sums[r][n] = (vec){0};
    for (int64_t p = 0; p < inner; p++) {
        vec right[VECS];
        for (int n = 0; n < vecs; n++) right[n] = *(const vec *)(b + p * ldb + n * LANES);
        for (int r = 0; r < rows; r++) {
            REAL left = a[r * row + p * step];
            for (int n = 0; n < vecs; n++) sums[r][n] += left * right[n];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int n = 0; n < vecs; n++) {
            vec *to = (vec *)(c + r * ldc + n * LANES);
            if (add) sums[r][n] += *to;
            *to = sums[r][n];
        }
}

INLINE void panel(const REAL *a, int64_t row, int64_t step, const REAL *b, int64_t ldb, REAL *c, int64_t ldc, int64_t rows, int64_t inner,
                  int add, const int vecs) {
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS) micro(a + r * row, row, step, b, ldb, c + r * ldc, ldc, inner, add, ROWS, vecs);
    a += r * row, c += r * ldc;
    switch (rows - r) {
        case 5: micro(a, row, step, b, ldb, c, ldc, inner, add, 5, vecs); break;
        case 4: micro(a, row, step, b, ldb, c, ldc, inner, add, 4, vecs); break;
        case 3: micro(a, row, step, b, ldb, c, ldc, inner, add, 3, vecs); break;
        case 2: micro(a, row, step, b, ldb, c, ldc, inner, add, 2, vecs); break;
        case 1: micro(a, row, step, b, ldb, c, ldc, inner, add, 1, vecs); break;
    }
}

/* c[rows, columns] (+)= a b, columns a multiple of LANES. */
static void product(const REAL *a, int64_t row, int64_t step, const REAL *b, int64_t ldb, REAL *c, int64_t ldc, int64_t rows, int64_t columns,
                    int64_t inner, int add) {
    int64_t n = 0;
    for (; n + VECS * LANES <= columns; n += VECS * LANES) panel(a, row, step, b + n, ldb, c + n, ldc, rows, inner, add, VECS);
    for (; n < columns; n += LANES) panel(a, row, step, b + n, ldb, c + n, ldc, rows, inner, add, 1);
}

/* to[width, BLOCK] = from[count, width]^T, zeros behind. */
static void turned(const REAL *from, int64_t stride, REAL *restrict to, int64_t count, int64_t width) {
    for (int64_t i = 0; i < width; i++) {
        for (int64_t j = 0; j < count; j++) to[i * BLOCK + j] = from[j * stride + i];
        for (int64_t j = count; j < BLOCK; j++) to[i * BLOCK + j] = 0;
    }
}

INLINE REAL largest(const REAL *x) {
    REAL lanes[VECTOR / sizeof(REAL)];
    for (int l = 0; l < LANES; l++) lanes[l] = x[l];
    for (int i = LANES; i < BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    REAL most = lanes[0];
    for (int l = 1; l < LANES; l++) most = lanes[l] > most ? lanes[l] : most;
    return most;
}

INLINE REAL total(const REAL *x, int64_t count) {
    vec sums = {0};
    for (int64_t i = 0; i < count; i += LANES) sums += *(const vec *)(x + i);
    return sum_lanes(sums);
}

/* Entries from .. to - 1. */
typedef struct {
    int64_t from, to;
} Run;

INLINE int64_t between(int64_t low, int64_t x, int64_t high) { return x < low ? low : x > high ? high : x; }

INLINE void runs_of(Run *runs, const int64_t *first, const int64_t *last, int64_t row, int64_t t, int64_t rows, int64_t time, int64_t entries) {
    for (int64_t r = 0; r < rows; r++) {
        runs[r].from = first ? between(0, first[row * time + t + r], entries) : 0;
        runs[r].to = between(0, last ? last[row * time + t + r] + 1 : entries - time + t + r + 1, entries);
    }
}

/* All that some query of a block sees lies in it; empty if no query sees anything. */
INLINE Run hull(const Run *runs, int64_t rows) {
    Run all = {INT64_MAX, 0};
    for (int64_t r = 0; r < rows; r++)
        if (runs[r].from < runs[r].to) {
            all.from = min64(all.from, runs[r].from);
            all.to = runs[r].to > all.to ? runs[r].to : all.to;
        }
    return all;
}

/* The runs as far as they lie in a block of `count` entries from `start`; whether every query sees all of it. */
INLINE int inside(const Run *runs, Run *here, int64_t rows, int64_t start, int64_t count) {
    int all = 1;
    for (int64_t r = 0; r < rows; r++) {
        here[r].from = between(0, runs[r].from - start, count);
        here[r].to = between(0, runs[r].to - start, count);
        all &= here[r].from == 0 && here[r].to == count;
    }
    return all;
}

/* Whether some bias is minus infinity: what it would be added to is not looked at. */
INLINE int closes(const REAL *bias, int64_t count) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) found += bias[i] == -INFINITY;
    return found > 0;
}

/* Where the biases of a row lie in front of a block of entries from `start`. */
INLINE int64_t placed(Run run, int64_t start, int64_t reach) { return reach - BLOCK - run.to + start; }

/* Whether x[rows, width] holds neither NaN nor infinity. */
INLINE int sound(const REAL *x, int64_t stride, int64_t rows, int64_t width) {
    vec sums = {0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i += LANES) sums += *(const vec *)(x + r * stride + i) * 0;
    return sum_lanes(sums) == 0;
}

INLINE void add(REAL *restrict to, REAL weight, const REAL *restrict x, int64_t width) {
    for (int64_t i = 0; i < width; i++) to[i] += weight * x[i];
}

/* o: [B,T,H*G,V] and the logarithms of the sums [B,H*G,T]; keys: room for [B,H,blocks of entries,K,BLOCK]. */
void attention_forward(int64_t q_, int64_t k_, int64_t v_, int64_t first_, int64_t last_, int64_t bias_, int64_t o_, int64_t lse_,
                       int64_t keys_, int64_t scale_, int64_t reach, int64_t batch, int64_t time, int64_t entries, int64_t heads, int64_t group, int64_t width, int64_t wide, int64_t qb,
                       int64_t qt, int64_t qh, int64_t kb, int64_t kt, int64_t kh, int64_t vb, int64_t vt, int64_t vh, int64_t threads) {
    const REAL *q = PTR(REAL, q_), *k = PTR(REAL, k_), *v = PTR(REAL, v_);
    const int64_t *first = PTR(int64_t, first_), *last = PTR(int64_t, last_);
    const REAL *bias = PTR(REAL, bias_);
    REAL *o = PTR(REAL, o_), *lse = PTR(REAL, lse_), *keys = PTR(REAL, keys_);
    double given;
    memcpy(&given, &scale_, sizeof given);
    const REAL scale = (REAL)given, unit = bias ? 1 : scale;
    const int closed = bias && closes(bias, heads * group * reach);
    int64_t blocks = (time + BLOCK - 1) / BLOCK, stored = (entries + BLOCK - 1) / BLOCK, all = heads * group;
    int team = worth(batch * all * time * entries * width, 1 << 20, threads);
#pragma omp parallel num_threads(team)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * heads * stored; i++) {
            int64_t j = i % stored, h = i / stored % heads, b = i / stored / heads;
            turned(k + b * kb + h * kh + j * BLOCK * kt, kt, keys + i * width * BLOCK, min64(BLOCK, entries - j * BLOCK), width);
        }
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < batch * all * blocks; task++) {
            int64_t i = blocks - 1 - task / (batch * all), h = task % all, b = task / all % batch; /* the longest first */
            int64_t rows = min64(BLOCK, time - i * BLOCK);
            const REAL *from = q + b * qb + h * qh + i * BLOCK * qt;
            const REAL *values = v + b * vb + h / group * vh, *packed = keys + (b * heads + h / group) * stored * width * BLOCK;
            REAL s[BLOCK * BLOCK] __attribute__((aligned(64))), y[BLOCK * WIDEST] __attribute__((aligned(64)));
            REAL most[BLOCK], sum[BLOCK];
            Run runs[BLOCK], here[BLOCK];
            runs_of(runs, first, last, b, i * BLOCK, rows, time, entries);
            Run seen = hull(runs, rows);
            for (int64_t r = 0; r < rows; r++) most[r] = -INFINITY, sum[r] = 0;
            memset(y, 0, (size_t)(rows * wide) * sizeof(REAL));
            for (int64_t j = seen.from / BLOCK; j * BLOCK < seen.to; j++) {
                int64_t count = min64(BLOCK, entries - j * BLOCK);
                int every = inside(runs, here, rows, j * BLOCK, count);
                product(from, qt, 1, packed + j * width * BLOCK, BLOCK, s, BLOCK, rows, BLOCK, width, 0);
                const REAL *more[BLOCK];
                for (int64_t r = 0; r < rows; r++) {
                    REAL *restrict p = s + r * BLOCK;
                    if (here[r].from >= here[r].to) {
                        memset(p, 0, BLOCK * sizeof(REAL));
                        continue;
                    }
                    if (bias) {
                        const REAL *own = more[r] = bias + h * reach + placed(runs[r], j * BLOCK, reach);
                        for (int n = 0; n < BLOCK; n++) p[n] = own[n] == -INFINITY ? own[n] : p[n] * scale + own[n];
                    }
                    for (int64_t n = 0; n < here[r].from; n++) p[n] = -INFINITY;
                    for (int64_t n = here[r].to; n < BLOCK; n++) p[n] = -INFINITY;
                    REAL peak = largest(p) * unit, now = peak > most[r] ? peak : most[r];
                    if (closed && now == -INFINITY) {
                        int none = 1;
                        for (int n = 0; n < BLOCK; n++) none &= p[n] == -INFINITY;
                        if (none) {
                            memset(p, 0, BLOCK * sizeof(REAL));
                            continue;
                        }
                    }
                    REAL shrink = exp_(most[r] - now);
                    for (int n = 0; n < BLOCK; n++) p[n] = exp_(p[n] * unit - now);
                    sum[r] = sum[r] * shrink + total(p, BLOCK);
                    most[r] = now;
                    if (shrink != 1)
                        for (int64_t n = 0; n < wide; n++) y[r * wide + n] *= shrink;
                }
                const REAL *these = values + j * BLOCK * vt;
                if ((every && !closed) || sound(these, vt, count, wide)) {
                    product(s, BLOCK, 1, these, vt, y, wide, rows, wide, count, 1);
                    continue;
                }
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t n = here[r].from; n < here[r].to; n++)
                        if (!closed || more[r][n] != -INFINITY) add(y + r * wide, s[r * BLOCK + n], these + n * vt, wide);
            }
            for (int64_t r = 0; r < rows; r++) {
                int none = runs[r].from >= runs[r].to;
                REAL *restrict to = o + ((b * time + i * BLOCK + r) * all + h) * wide, share = none ? 0 : 1 / sum[r];
                for (int64_t n = 0; n < wide; n++) to[n] = y[r * wide + n] * share;
                lse[(b * all + h) * time + i * BLOCK + r] = none ? 0 : most[r] + (REAL)log((double)sum[r]);
            }
        }
    }
}

/* grad, o: [B,T,H*G,V]; dq: zeros [B,T,H*G,K]; dk: [B,N,H*G,K] and dv: [B,N,H*G,V], one share for each query head; d_bias: zeros
   [B,H*G,reach], of the biases times scale. */
void attention_backward(int64_t q_, int64_t k_, int64_t v_, int64_t first_, int64_t last_, int64_t bias_, int64_t o_, int64_t lse_,
                        int64_t grad_, int64_t dq_, int64_t dk_, int64_t dv_, int64_t d_bias_, int64_t scale_, int64_t reach, int64_t batch, int64_t time, int64_t entries, int64_t heads, int64_t group,
                        int64_t width, int64_t wide, int64_t qb, int64_t qt, int64_t qh, int64_t kb, int64_t kt, int64_t kh, int64_t vb,
                        int64_t vt, int64_t vh, int64_t threads) {
    const REAL *q = PTR(REAL, q_), *k = PTR(REAL, k_), *v = PTR(REAL, v_), *o = PTR(REAL, o_), *lse = PTR(REAL, lse_);
    const REAL *grad = PTR(REAL, grad_);
    const int64_t *first = PTR(int64_t, first_), *last = PTR(int64_t, last_);
    const REAL *bias = PTR(REAL, bias_);
    REAL *dq = PTR(REAL, dq_), *dk = PTR(REAL, dk_), *dv = PTR(REAL, dv_), *d_bias = PTR(REAL, d_bias_);
    double given;
    memcpy(&given, &scale_, sizeof given);
    const REAL scale = (REAL)given;
    int64_t blocks = (time + BLOCK - 1) / BLOCK, stored = (entries + BLOCK - 1) / BLOCK, all = heads * group;
    const int closed = bias && closes(bias, all * reach);
#pragma omp parallel for schedule(dynamic) num_threads(worth(batch * all * time * entries * width, 1 << 19, threads))
    for (int64_t task = 0; task < batch * all; task++) {
        int64_t h = task % all, b = task / all, step = all * width, stride = all * wide;
        const REAL *queries = q + b * qb + h * qh, *keys = k + b * kb + h / group * kh, *values = v + b * vb + h / group * vh;
        const REAL *out = o + b * time * stride + h * wide, *g = grad + b * time * stride + h * wide, *logs = lse + task * time;
        REAL *to_q = dq + b * time * step + h * width, *to_k = dk + b * entries * step + h * width, *to_v = dv + b * entries * stride + h * wide;
        REAL *to_bias = bias ? d_bias + b * all * reach : NULL;
        REAL turned_k[WIDEST * BLOCK] __attribute__((aligned(64))), turned_v[WIDEST * BLOCK] __attribute__((aligned(64)));
        REAL p[BLOCK * BLOCK] __attribute__((aligned(64))), d[BLOCK * BLOCK] __attribute__((aligned(64)));
        Run runs[BLOCK], here[BLOCK];
        int64_t places[BLOCK];
        for (int64_t j = 0; j < stored; j++) {
            int64_t count = min64(BLOCK, entries - j * BLOCK), early = last ? 0 : j * BLOCK - (entries - time);
            const REAL *these = keys + j * BLOCK * kt;
            turned(these, kt, turned_k, count, width);
            turned(values + j * BLOCK * vt, vt, turned_v, count, wide);
            for (int64_t n = j * BLOCK; n < j * BLOCK + count; n++) {
                memset(to_k + n * step, 0, (size_t)width * sizeof(REAL));
                memset(to_v + n * stride, 0, (size_t)wide * sizeof(REAL));
            }
            for (int64_t i = early > 0 ? early / BLOCK : 0; i < blocks; i++) {
                int64_t rows = min64(BLOCK, time - i * BLOCK);
                runs_of(runs, first, last, b, i * BLOCK, rows, time, entries);
                Run seen = hull(runs, rows);
                if (seen.from >= j * BLOCK + count || seen.to <= j * BLOCK) continue;
                int every = inside(runs, here, rows, j * BLOCK, count);
                const REAL *from = queries + i * BLOCK * qt, *up = g + i * BLOCK * stride;
                product(from, qt, 1, turned_k, BLOCK, p, BLOCK, rows, BLOCK, width, 0);
                product(up, stride, 1, turned_v, BLOCK, d, BLOCK, rows, BLOCK, wide, 0);
                for (int64_t r = 0; r < rows; r++) {
                    REAL *restrict pr = p + r * BLOCK, *restrict dr = d + r * BLOCK, log_sum = logs[i * BLOCK + r], mean = 0;
                    const REAL *ur = up + r * stride, *or = out + (i * BLOCK + r) * stride;
                    vec sums = {0};
                    for (int64_t n = 0; n < wide; n += LANES) sums += *(const vec *)(ur + n) * *(const vec *)(or + n);
                    mean = sum_lanes(sums);
                    int64_t place = places[r] = h * reach + placed(runs[r], j * BLOCK, reach);
                    if (here[r].from >= here[r].to) {
                        memset(pr, 0, BLOCK * sizeof(REAL));
                        memset(dr, 0, BLOCK * sizeof(REAL));
                        continue;
                    }
                    if (bias)
                        for (int n = 0; n < BLOCK; n++) pr[n] = exp_(pr[n] * scale + bias[place + n] - log_sum);
                    else
                        for (int n = 0; n < BLOCK; n++) pr[n] = exp_(pr[n] * scale - log_sum);
                    for (int n = 0; n < BLOCK; n++) dr[n] = pr[n] * (dr[n] - mean) * scale;
                    for (int64_t n = 0; n < here[r].from; n++) pr[n] = dr[n] = 0;
                    for (int64_t n = here[r].to; n < BLOCK; n++) pr[n] = dr[n] = 0;
                    if (closed)
                        for (int64_t n = 0; n < BLOCK; n++)
                            if (bias[place + n] == -INFINITY) pr[n] = dr[n] = 0;
                    if (bias) add(to_bias + place, 1, dr, BLOCK);
                }
                if ((every && !closed) || (sound(up, stride, rows, wide) && sound(from, qt, rows, width) && sound(these, kt, count, width))) {
                    product(p, 1, BLOCK, up, stride, to_v + j * BLOCK * stride, stride, count, wide, rows, 1);
                    product(d, 1, BLOCK, from, qt, to_k + j * BLOCK * step, step, count, width, rows, 1);
                    product(d, BLOCK, 1, these, kt, to_q + i * BLOCK * step, step, rows, width, count, 1);
                    continue;
                }
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t n = here[r].from; n < here[r].to; n++) {
                        if (closed && bias[places[r] + n] == -INFINITY) continue;
                        add(to_v + (j * BLOCK + n) * stride, p[r * BLOCK + n], up + r * stride, wide);
                        add(to_k + (j * BLOCK + n) * step, d[r * BLOCK + n], from + r * qt, width);
                        add(to_q + (i * BLOCK + r) * step, d[r * BLOCK + n], these + n * kt, width);
                    }
            }
        }
    }
}

/* One query [B,H*G,K] against the N entries from first [B] on; o: [B,H*G,V]; scores: room for [B,H*G,N+16]. */
void attention_step(int64_t q_, int64_t k_, int64_t v_, int64_t first_, int64_t bias_, int64_t o_, int64_t scores_, int64_t scale_, int64_t reach,
                    int64_t batch, int64_t entries,
                    int64_t heads, int64_t group, int64_t width, int64_t wide, int64_t kb, int64_t kt, int64_t kh, int64_t vb, int64_t vt,
                    int64_t vh, int64_t threads) {
    const REAL *q = PTR(REAL, q_), *k = PTR(REAL, k_), *v = PTR(REAL, v_);
    const int64_t *first = PTR(int64_t, first_);
    const REAL *bias = PTR(REAL, bias_);
    REAL *o = PTR(REAL, o_), *scores = PTR(REAL, scores_);
    double given;
    memcpy(&given, &scale_, sizeof given);
    const REAL scale = (REAL)given;
    int64_t all = heads * group, room = entries + 16;
#pragma omp parallel for schedule(static) num_threads(worth(batch * all * entries * (width + wide), 131072, threads))
    for (int64_t task = 0; task < batch * all; task++) {
        int64_t h = task % all, b = task / all, from = first ? between(0, first[b], entries) : 0;
        const REAL *query = q + task * width, *keys = k + b * kb + h / group * kh, *values = v + b * vb + h / group * vh;
        const REAL *more = bias ? bias + h * reach + placed((Run){from, entries}, 0, reach) : NULL;
        REAL *s = scores + task * room, peak = -INFINITY;
        for (int64_t n = from; n < entries; n++) {
            vec sums = {0};
            for (int64_t i = 0; i < width; i += LANES) sums += *(const vec *)(query + i) * *(const vec *)(keys + n * kt + i);
            s[n] = !more ? sum_lanes(sums) * scale : more[n] == -INFINITY ? more[n] : sum_lanes(sums) * scale + more[n];
            peak = s[n] > peak ? s[n] : peak;
        }
        int64_t count = entries - from, padded = (count + LANES - 1) / LANES * LANES;
        s += from;
        for (int64_t n = count; n < padded; n++) s[n] = -INFINITY;
        for (int64_t n = 0; n < padded; n++) s[n] = exp_(s[n] - peak);
        REAL share = count ? 1 / total(s, padded) : 0;
        REAL y[WIDEST] __attribute__((aligned(64)));
        values += from * vt;
        if (!more || !closes(more + from, count) || sound(values, vt, count, wide)) {
            product(s, 0, 1, values, vt, y, wide, 1, wide, count, 0);
        } else {
            memset(y, 0, (size_t)wide * sizeof(REAL));
            for (int64_t n = 0; n < count; n++)
                if (more[from + n] != -INFINITY) add(y, s[n], values + n * vt, wide);
        }
        for (int64_t i = 0; i < wide; i++) o[task * wide + i] = y[i] * share;
    }
}
