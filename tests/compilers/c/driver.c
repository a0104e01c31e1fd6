/* Goes through what a program has besides its steps: rows, prefill, copies, and drafts that are not accepted. Prints what it finds wrong. */
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAT2(a, b) a##b
#define CAT(a, b) CAT2(a, b)
#define F(name) CAT(NAME, CAT(_, name))

static int64_t token(int64_t row, int64_t t) { return (row * 5 + t * 3 + t * t) % 7; }

static int differs(const char *what, const F(real) *a, const F(real) *b) {
    for (int i = 0; i < 3 * SIZE; i++)
        if (a[i] != b[i]) return printf("%s: %d: %g, not %g\n", what, i, a[i], b[i]), 1;
    return 0;
}

int main(int count, char **given) {
    static F(real) y[3 * SIZE], z[3 * SIZE];
    int64_t x[3], many[3 * STEPS], bad[3] = {1, 2, 1 << 20};
    NAME *model = F(load)(given[count - 1], 3), *other = F(load)(given[count - 1], 3);
    if (!model || !other) return puts("cannot be loaded"), 1;
    if (F(load)(given[count - 1], 9) || F(load)("/dev/null", 1)) return puts("is loaded all the same"), 1;
    for (int64_t t = 0; t < STEPS; t++) {
        for (int r = 0; r < 3; r++) x[r] = many[r * STEPS + t] = token(r, t);
        if (F(step)(model, x, y)) return puts("fails"), 1;
        if (t % 10 == 3) {
            /* a draft that is not accepted, long enough for registers to move */
            if (F(mark)(model)) return puts("cannot mark"), 1;
            for (int64_t i = 0; i < DRAFT; i++)
                if (F(step)(model, x, z)) return puts("fails in a draft"), 1;
            F(rollback)(model);
            if (F(step)(model, bad, z) != -1) return puts("takes any token"), 1;
        }
    }
    if (F(prefill)(other, STEPS, many, z)) return puts("prefill fails"), 1;
    int wrong = differs("prefill", z, y);
    F(start)(other);
    if (F(step)(other, x, z) || F(copy)(other, model)) return puts("cannot copy"), 1;
    if (F(step)(model, x, y) || F(step)(other, x, z)) return puts("fails after a copy"), 1;
    wrong |= differs("copy", z, y);
    if (F(state_size)(model) == 0) wrong = 1;
    F(free)(model), F(free)(other);
    return wrong;
}
