/* Threads that go through the phases of a program together: each owns a part of the axes that it computes. */
#ifndef TEAM_H
#define TEAM_H

#include "common.h"
#include <sched.h>

#define ROWS 8 /* sequences that go through the phases together */

typedef struct { int64_t from, to; } range_t;

/* The part of `size` that a member of a team owns, in units of `align`. */
INLINE range_t part_of(int64_t size, int64_t align, int64_t rank, int64_t team) {
    int64_t tiles = (size + align - 1) / align;
    range_t own = {min64(size, tiles * rank / team * align), min64(size, tiles * (rank + 1) / team * align)};
    return own;
}

INLINE void wait_for_all(int64_t *arrived, int64_t *round, int64_t team) {
    if (team == 1) return;
    int64_t target = ++*round * team;
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int spins = 0; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < target; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins > 2000) sched_yield(); /* somebody else has the core that we wait for */
    }
}

#endif
