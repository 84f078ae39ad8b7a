/* The trail of a tier: what was asked for of late, for a sample of the keys, in order.
 *
 * The twin of near/trail.py, where the method stands in words. Both note the same
 * (tests/unit/near/test_trail.py); near/miniature.py plays it on small caches.
 *
 * Memory: none before the first access, then 4 KB, doubled up to 16 KB, or 512 bytes for every
 * entry of the tier and no more than 384 KB. Where memory is refused it makes do with what it has.
 * Not thread-safe: the tier sees to that.
 */
#ifndef NEARCACHE_TRAIL_H
#define NEARCACHE_TRAIL_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

enum {
    TRAIL_MOST = 3 << 15,  /* accesses */
    TRAIL_FIRST = 1 << 10, /* as many at first */
    TRAIL_FEW = 1 << 12,   /* room for as many, however small the tier … */
    TRAIL_TURNS = 128,     /* … and for as many for every entry of it */
    TRAIL_LEAST = 768,     /* entries of a miniature of the tier: a smaller one is not alike */
    TRAIL_RARE = 10        /* the rate does not fall below 2^-10 */
};

typedef struct {
    uint64_t sample;  /* a key with none of these bits in its hash is followed */
    uint32_t *words;  /* a ring: 31 bits of a hash, and whether it was a hit */
    uint32_t capacity, count, first;
    uint32_t shift;   /* one key in 2^shift is followed */
    uint32_t entries; /* of the tier */
    int late;         /* older accesses were dropped */
} trail;

static void trail_free(trail *t) {
    PyMem_RawFree(t->words);
    memset(t, 0, sizeof *t);
}

static inline size_t trail_bytes(const trail *t) { return t->capacity * sizeof *t->words; }

static inline uint32_t trail_place(const trail *t, uint32_t number) {
    uint32_t place = t->first + number;
    return place < t->capacity ? place : place - t->capacity;
}

static inline uint32_t trail_at(const trail *t, uint32_t number) {
    return t->words[trail_place(t, number)];
}

/* Have more room; -1 where it has as much as it may, or gets none. */
static int trail_grow(trail *t) {
    uint32_t capacity = t->capacity ? t->capacity * 2 : TRAIL_FIRST, i;
    uint32_t *words;
    if (capacity > TRAIL_MOST) capacity = TRAIL_MOST;
    if (capacity == t->capacity) return -1;
    if (capacity > TRAIL_FEW && t->capacity >= (uint64_t)TRAIL_TURNS * t->entries) return -1;
    words = PyMem_RawMalloc(capacity * sizeof *words);
    if (!words) return -1;
    for (i = 0; i < t->count; i++) words[i] = trail_at(t, i);
    PyMem_RawFree(t->words);
    t->words = words;
    t->capacity = capacity;
    t->first = 0;
    return 0;
}

/* Follow half as many keys. */
static void trail_halve(trail *t) {
    uint32_t i, kept = 0, word;
    t->sample = ((uint64_t)1 << ++t->shift) - 1;
    for (i = 0; i < t->count; i++) {
        word = trail_at(t, i);
        if (!(word >> 1 & t->sample)) t->words[trail_place(t, kept++)] = word;
    }
    t->count = kept;
}

static void trail_note(trail *t, uint64_t hash, int hit) {
    uint32_t word = (uint32_t)hash << 1 | (uint32_t)hit;
    if (t->count == t->capacity && trail_grow(t)) {
        if (!t->capacity) return;
        while (t->count == t->capacity && t->shift < TRAIL_RARE &&
               t->entries >> (t->shift + 1) >= TRAIL_LEAST)
            trail_halve(t);
        if (hash & t->sample) return;
        if (t->count == t->capacity) {
            t->words[t->first] = word;
            t->first = trail_place(t, 1);
            t->late = 1;
            return;
        }
    }
    t->words[trail_place(t, t->count++)] = word;
}

#endif
