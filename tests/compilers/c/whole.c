/* Whole sequences: read before the first step, kept by start, copied with the state, read anew. */
#include "model.h"

#include <stdio.h>
#include <string.h>

#define CHECK(holds) \
    if (!(holds)) return printf("line %d: %s\n", __LINE__, #holds), 1

static const int64_t one[] = {1, 2, 3, 4, 5, 6}, two[] = {2, 2, 1, 1}, tokens[] = {1, 2};

int main(int count, char **given) {
    (void)count;
    static float y[2 * SIZE], other[2 * SIZE], third[2 * SIZE];
    vaswani *a = vaswani_load(given[1], 2), *b = vaswani_load(given[1], 2);
    CHECK(a && b);
    CHECK(vaswani_step(a, tokens, y) == -3);
    CHECK(vaswani_read(a, 0, one) == -3);
    CHECK(vaswani_read(a, 3, one) == 0);
    CHECK(vaswani_step(a, tokens, y) == 0);
    CHECK(vaswani_copy(b, a) == 0);
    CHECK(vaswani_state_size(a) == vaswani_state_size(b));
    CHECK(vaswani_step(a, tokens, y) == 0 && vaswani_step(b, tokens, other) == 0);
    CHECK(!memcmp(y, other, sizeof y));
    vaswani_start(a);
    CHECK(vaswani_step(a, tokens, y) == 0 && vaswani_step(a, tokens, third) == 0);
    CHECK(!memcmp(third, other, sizeof third));
    const int64_t bad[] = {1, -1, 1, 1};
    CHECK(vaswani_read(a, 2, bad) == -1);
    vaswani_start(a);
    CHECK(vaswani_step(a, tokens, third) == 0 && !memcmp(third, y, sizeof y)); /* what was read before is there still */
    CHECK(vaswani_read(a, 2, two) == 0);
    vaswani_start(a);
    CHECK(vaswani_step(a, tokens, third) == 0 && memcmp(third, y, sizeof y));
    vaswani_free(a);
    vaswani_free(b);
    return 0;
}
