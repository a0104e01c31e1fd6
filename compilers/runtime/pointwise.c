/* What stands between the products of a layer: norms, rotations, gates. Rows may lie apart (a stride), each is contiguous. */
#include "common.h"

/* y = x / sqrt(mean(x^2) + eps) * w, and 1 / sqrt(...) of every row. w may be NULL; eps comes as the bits of a double. */
void rms_norm_forward(int64_t x_, int64_t w_, int64_t y_, int64_t scale_, int64_t rows, int64_t width, int64_t eps_, int64_t threads) {
    const REAL *x = PTR(REAL, x_), *w = PTR(REAL, w_);
    REAL *y = PTR(REAL, y_), *scale = PTR(REAL, scale_);
    double eps;
    memcpy(&eps, &eps_, sizeof eps);
#pragma omp parallel for schedule(static) num_threads(worth(rows * width, 65536, threads))
    for (int64_t r = 0; r < rows; r++) {
        const REAL *from = x + r * width;
        REAL *restrict to = y + r * width;
        vec sums = {0};
        REAL sum = 0;
        int64_t i = 0;
        for (; i + LANES <= width; i += LANES) {
            vec v = *(const vec *)(from + i);
            sums += v * v;
        }
        for (; i < width; i++) sum += from[i] * from[i];
        REAL s = 1 / (REAL)sqrt((double)(sum + sum_lanes(sums)) / (double)width + eps);
        scale[r] = s;
        if (w)
            for (i = 0; i < width; i++) to[i] = from[i] * s * w[i];
        else
            for (i = 0; i < width; i++) to[i] = from[i] * s;
    }
}

/* dx = s (g w - x s^2 mean(g w x)); dw, one share per thread: [threads,width], the sum over rows of g x s. */
void rms_norm_backward(int64_t x_, int64_t w_, int64_t scale_, int64_t grad_, int64_t dx_, int64_t dw_, int64_t rows, int64_t width,
                       int64_t threads) {
    const REAL *x = PTR(REAL, x_), *w = PTR(REAL, w_), *scale = PTR(REAL, scale_), *grad = PTR(REAL, grad_);
    REAL *dx = PTR(REAL, dx_), *dw = PTR(REAL, dw_);
#pragma omp parallel num_threads(worth(rows * width, 65536, threads))
    {
        REAL *restrict share = dw ? dw + THREAD * width : NULL;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            const REAL *from = x + r * width, *g = grad + r * width;
            REAL *restrict to = dx + r * width;
            REAL s = scale[r], sum = 0;
            vec sums = {0};
            int64_t i = 0;
            for (; i + LANES <= width; i += LANES) {
                vec v = *(const vec *)(from + i) * *(const vec *)(g + i);
                if (w) v *= *(const vec *)(w + i);
                sums += v;
            }
            for (; i < width; i++) sum += from[i] * g[i] * (w ? w[i] : 1);
            REAL c = (sum + sum_lanes(sums)) / (REAL)width * s * s;
            if (w) {
                for (i = 0; i < width; i++) to[i] = s * (g[i] * w[i] - from[i] * c);
                for (i = 0; i < width; i++) share[i] += g[i] * from[i] * s;
            } else
                for (i = 0; i < width; i++) to[i] = s * (g[i] - from[i] * c);
        }
    }
}

/* Pairs of the last axis turned. x: rows of [outer,inner,2*half], a stride apart; c, s: [turns,inner,half], row r by r modulo turns;
   y: contiguous. sign -1 turns back. */
void turn(int64_t x_, int64_t c_, int64_t s_, int64_t y_, int64_t rows, int64_t stride, int64_t outer, int64_t inner, int64_t half,
          int64_t turns, int64_t halves, int64_t sign, int64_t threads) {
    const REAL *x = PTR(REAL, x_), *c = PTR(REAL, c_), *s = PTR(REAL, s_);
    REAL *y = PTR(REAL, y_);
#pragma omp parallel for schedule(static) num_threads(worth(rows * outer * inner * half * 2, 65536, threads))
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < outer * inner; h++) {
            const REAL *from = x + r * stride + h * 2 * half;
            int64_t at = ((r % turns) * inner + h % inner) * half;
            const REAL *cos = c + at, *sin = s + at;
            REAL *restrict to = y + (r * outer * inner + h) * 2 * half, sg = (REAL)sign;
            if (halves)
                for (int64_t i = 0; i < half; i++) {
                    REAL a = from[i], b = from[half + i], sine = sg * sin[i];
                    to[i] = a * cos[i] - b * sine;
                    to[half + i] = a * sine + b * cos[i];
                }
            else
                for (int64_t i = 0; i < half; i++) {
                    REAL a = from[2 * i], b = from[2 * i + 1], sine = sg * sin[i];
                    to[2 * i] = a * cos[i] - b * sine;
                    to[2 * i + 1] = a * sine + b * cos[i];
                }
        }
}

/* The gates, by number: sigmoid, silu, gelu in its tanh form. gelu_tanh(x) = x sigmoid(2 k (x + 0.044715 x^3)). */
enum { SIGMOID, SILU, GELU_TANH };
#define GELU_K ((REAL)1.5957691216057308)
#define GELU_C ((REAL)0.044715)

INLINE REAL gate(REAL x, const int kind) {
    if (kind == SIGMOID) return sigmoid_(x);
    if (kind == SILU) return x * sigmoid_(x);
    return x * sigmoid_(GELU_K * x * (1 + GELU_C * x * x));
}

INLINE REAL slope(REAL x, const int kind) {
    REAL s = sigmoid_(kind == GELU_TANH ? GELU_K * x * (1 + GELU_C * x * x) : x), rest = s * (1 - s);
    if (kind == SIGMOID) return rest;
    if (kind == SILU) return s + x * rest;
    return s + x * rest * GELU_K * (1 + 3 * GELU_C * x * x);
}

INLINE void gate_rows(const REAL *a, const REAL *b, REAL *y, int64_t from, int64_t to, int64_t width, int64_t a_stride, int64_t b_stride,
                      const int kind) {
    for (int64_t r = from; r < to; r++) {
        const REAL *ar = a + r * a_stride, *br = b + r * b_stride;
        REAL *restrict yr = y + r * width;
        if (b)
            for (int64_t i = 0; i < width; i++) yr[i] = gate(ar[i], kind) * br[i];
        else
            for (int64_t i = 0; i < width; i++) yr[i] = gate(ar[i], kind);
    }
}

INLINE void gate_rows_back(const REAL *a, const REAL *b, const REAL *g, REAL *da, REAL *db, int64_t from, int64_t to, int64_t width,
                           int64_t a_stride, int64_t b_stride, const int kind) {
    for (int64_t r = from; r < to; r++) {
        const REAL *ar = a + r * a_stride, *br = b + r * b_stride, *gr = g + r * width;
        REAL *restrict dar = da + r * width, *restrict dbr = db + r * width;
        if (b)
            for (int64_t i = 0; i < width; i++) {
                dar[i] = gr[i] * br[i] * slope(ar[i], kind);
                dbr[i] = gr[i] * gate(ar[i], kind);
            }
        else
            for (int64_t i = 0; i < width; i++) dar[i] = gr[i] * slope(ar[i], kind);
    }
}

#define STRIPS 64 /* pieces of the rows, so that the kind is looked at outside the loop over them */

/* y = gate(a) b, or gate(a) where b is NULL. */
void gated_forward(int64_t a_, int64_t b_, int64_t y_, int64_t rows, int64_t width, int64_t a_stride, int64_t b_stride, int64_t kind,
                   int64_t threads) {
    const REAL *a = PTR(REAL, a_), *b = PTR(REAL, b_);
    REAL *y = PTR(REAL, y_);
    int64_t step = (rows + STRIPS - 1) / STRIPS;
#pragma omp parallel for schedule(static) num_threads(worth(rows * width, 16384, threads))
    for (int64_t r = 0; r < rows; r += step) {
        int64_t end = min64(r + step, rows);
        if (kind == SIGMOID) gate_rows(a, b, y, r, end, width, a_stride, b_stride, SIGMOID);
        else if (kind == SILU) gate_rows(a, b, y, r, end, width, a_stride, b_stride, SILU);
        else gate_rows(a, b, y, r, end, width, a_stride, b_stride, GELU_TANH);
    }
}

void gated_backward(int64_t a_, int64_t b_, int64_t grad_, int64_t da_, int64_t db_, int64_t rows, int64_t width, int64_t a_stride,
                    int64_t b_stride, int64_t kind, int64_t threads) {
    const REAL *a = PTR(REAL, a_), *b = PTR(REAL, b_), *g = PTR(REAL, grad_);
    REAL *da = PTR(REAL, da_), *db = PTR(REAL, db_);
    int64_t step = (rows + STRIPS - 1) / STRIPS;
#pragma omp parallel for schedule(static) num_threads(worth(rows * width, 16384, threads))
    for (int64_t r = 0; r < rows; r += step) {
        int64_t end = min64(r + step, rows);
        if (kind == SIGMOID) gate_rows_back(a, b, g, da, db, r, end, width, a_stride, b_stride, SIGMOID);
        else if (kind == SILU) gate_rows_back(a, b, g, da, db, r, end, width, a_stride, b_stride, SILU);
        else gate_rows_back(a, b, g, da, db, r, end, width, a_stride, b_stride, GELU_TANH);
    }
}
