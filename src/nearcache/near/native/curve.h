/* The miss-ratio curve of the tier: what its hit ratio would be at any other size, under LRU.
 *
 * The twin of near/curve.py, where the method stands in words: SHARDS with a fixed number of samples
 * (Waldspurger et al., "Efficient MRC Construction with SHARDS", FAST 2015), paid by misses. Both
 * count the same (tests/unit/near/test_curve.py); what the counts say is worked out there.
 *
 * A hit of a key that is not sampled costs an increment and two comparisons. The reuse distance of
 * one that is: the sampled keys' last accesses are bits in a window of time, counted in two levels,
 * so a distance is the sum of a few small counters; when the window is full, the bits move together.
 *
 * The hits and misses that it looks at are noted in the tier's trail, too (trail.h), which has a
 * sample of its own; a hit in neither of them goes by.
 *
 * Memory: none before the first sample, then a block that doubles from 3 KB to 94 KB, and 32 bytes
 * per bin (4 KB at first, 16 KB for 500,000 distinct keys, 24 KB for 60 million). Where memory is
 * refused it makes do with what it has and samples fewer keys. Not thread-safe: the tier sees to
 * that.
 */
#ifndef NEARCACHE_CURVE_H
#define NEARCACHE_CURVE_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "trail.h"

enum {
    CURVE_KEYS = 6144,     /* most keys sampled */
    CURVE_FIRST = 192,     /* as many at first: doubled five times it is CURVE_KEYS */
    CURVE_TURNS = 8,       /* a burst takes as many accesses as there are sampled keys, eightfold */
    CURVE_BURST = 2048,    /* … and no fewer */
    CURVE_SHARE = 64,      /* without misses, one access in as many is looked at */
    CURVE_GRANT = 32,      /* accesses that a miss pays for */
    CURVE_SAVED = 1 << 16, /* most credit, and the first */
    CURVE_TICK = 4096,     /* samples from one look at what has faded to the next */
    CURVE_FRACTION = 8,    /* bits of a count after the point, for halving */
    CURVE_RARE = 32,       /* the rate does not fall below 2^-32 */
    CURVE_BINS_STEP = 128
};

#define CURVE_NEVER UINT64_MAX

enum { CURVE_HIT, CURVE_MISS, CURVE_GHOST }; /* a ghost is a miss in a pause: seen, not counted */

typedef struct {
    uint64_t known[2];   /* hits and misses with a distance in this bin … */
    uint64_t at_least[2]; /* … and with an unknown one, that is longer */
} curve_bin;

typedef struct curve {
    uint64_t reject; /* a hit with one of these bits in its hash is not looked at */
    uint64_t hits, misses;
    uint64_t wake; /* the pause ends with this hit */
    uint64_t sample; /* a key with none of these bits in its hash is sampled */
    uint64_t skipped_hits, skipped_misses, paused_at;
    uint32_t shift; /* one key in 2^shift is sampled */
    uint32_t credit;
    uint32_t until_tick;
    uint32_t count, capacity; /* sampled keys, and room for them */
    uint32_t now, resumed, faded; /* times in the window */
    uint32_t fresh; /* keys whose last access was not before `resumed` */
    int paused;
    uint64_t *hash;  /* per key */
    uint64_t *bits;  /* per time: whether it is the last access of a key */
    uint16_t *last;  /* per key: the time of its last access */
    uint16_t *cells; /* open addressing: a key's number + 1, or 0 */
    uint16_t *supers; /* bits in 16 words */
    uint8_t *words;  /* bits in a word */
    curve_bin *bins;
    uint32_t bins_count;
    uint64_t cold; /* misses of keys never seen */
    trail trail;
} curve;

static inline uint32_t curve_window(uint32_t capacity) { return capacity * 2; }

static inline uint32_t curve_cells(uint32_t capacity) {
    return capacity / 3 * 8; /* a power of two, 37 % full at most */
}

static inline uint32_t curve_word_count(uint32_t capacity) { return curve_window(capacity) / 64; }

static inline uint32_t curve_super_count(uint32_t capacity) {
    return curve_word_count(capacity) / 16 + 1;
}

static inline uint64_t curve_burst(const curve *c) {
    uint64_t burst = (uint64_t)CURVE_TURNS * c->count;
    return burst < CURVE_BURST ? CURVE_BURST : burst;
}

static void curve_init(curve *c) {
    memset(c, 0, sizeof *c);
    c->wake = CURVE_NEVER;
    c->credit = CURVE_SAVED;
    c->until_tick = CURVE_TICK;
}

static void curve_free(curve *c) {
    PyMem_RawFree(c->hash);
    PyMem_RawFree(c->bins);
    trail_free(&c->trail);
    curve_init(c);
}

/* Forget everything, and give all memory back. */
static inline void curve_reset(curve *c) { curve_free(c); }

static inline size_t curve_block_bytes(uint32_t capacity) {
    return capacity * (sizeof(uint64_t) + sizeof(uint16_t)) +
           curve_word_count(capacity) * (sizeof(uint64_t) + 1) +
           curve_cells(capacity) * sizeof(uint16_t) +
           curve_super_count(capacity) * sizeof(uint16_t);
}

static inline size_t curve_bytes(const curve *c) {
    return (c->capacity ? curve_block_bytes(c->capacity) : 0) + c->bins_count * sizeof *c->bins;
}

static inline uint32_t curve_popcount(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (uint32_t)(x * 0x0101010101010101u >> 56);
}

static inline void curve_mark(curve *c, uint32_t time) {
    c->bits[time >> 6] |= (uint64_t)1 << (time & 63);
    c->words[time >> 6]++;
    c->supers[time >> 10]++;
}

static inline void curve_unmark(curve *c, uint32_t time) {
    c->bits[time >> 6] &= ~((uint64_t)1 << (time & 63));
    c->words[time >> 6]--;
    c->supers[time >> 10]--;
}

/* Keys whose last access was after this time: short for a key seen a short time ago. */
static inline uint32_t curve_since(const curve *c, uint32_t time) {
    uint32_t word = time >> 6, newest = (c->now - 1) >> 6, super = word >> 4;
    uint32_t sum = curve_popcount(c->bits[word] >> (time & 63) >> 1);
    uint32_t end = (super + 1) << 4;
    if (end > newest + 1) end = newest + 1;
    while (++word < end) sum += c->words[word];
    for (newest >>= 4; ++super <= newest;) sum += c->supers[super];
    return sum;
}

static inline uint32_t curve_home(const curve *c, uint64_t hash) {
    /* the low bits are those that sampling goes by */
    return (uint32_t)(hash >> 40) & (curve_cells(c->capacity) - 1);
}

/* The cell of a key, or the empty one where it belongs. */
static inline uint32_t curve_find(const curve *c, uint64_t hash) {
    uint32_t cell = curve_home(c, hash), end = curve_cells(c->capacity) - 1;
    while (c->cells[cell] && c->hash[c->cells[cell] - 1] != hash) cell = (cell + 1) & end;
    return cell;
}

/* Keep the sampled keys last seen at `oldest` or later, and move their times together. */
static void curve_tidy(curve *c, uint32_t oldest) {
    uint32_t words = curve_word_count(c->capacity), kept = 0, sum = 0, i;
    uint32_t times[3], ranks[3];
    uint16_t below[CURVE_KEYS * 2 / 64 + 1];
    for (i = 0; i < c->count; i++) {
        if (c->hash[i] & c->sample || c->last[i] < oldest) {
            curve_unmark(c, c->last[i]);
            continue;
        }
        c->hash[kept] = c->hash[i];
        c->last[kept++] = c->last[i];
    }
    for (i = 0; i < words; sum += c->words[i++]) below[i] = (uint16_t)sum;
    below[words] = (uint16_t)sum;
    times[0] = c->now;
    times[1] = c->resumed;
    times[2] = c->faded;
    for (i = 0; i < 3; i++) {
        uint32_t word = times[i] >> 6, bit = times[i] & 63;
        ranks[i] = below[word];
        if (bit) ranks[i] += curve_popcount(c->bits[word] << (64 - bit));
    }
    memset(c->cells, 0, curve_cells(c->capacity) * sizeof *c->cells);
    for (i = 0; i < kept; i++) {
        uint32_t word = c->last[i] >> 6, bit = c->last[i] & 63, rank = below[word];
        if (bit) rank += curve_popcount(c->bits[word] << (64 - bit));
        c->last[i] = (uint16_t)rank;
        c->cells[curve_find(c, c->hash[i])] = (uint16_t)(i + 1);
    }
    c->count = kept;
    c->now = ranks[0];
    c->resumed = ranks[1];
    c->faded = ranks[2];
    c->fresh = c->now - c->resumed;
    memset(c->bits, 0, words * sizeof *c->bits);
    memset(c->words, 0, words);
    memset(c->supers, 0, curve_super_count(c->capacity) * sizeof *c->supers);
    for (i = 0; i < kept; i++) curve_mark(c, i);
}

static int curve_grow(curve *c) {
    curve old = *c;
    uint32_t capacity = c->capacity ? c->capacity * 2 : CURVE_FIRST;
    uint32_t words = curve_word_count(capacity), had = curve_word_count(c->capacity);
    char *block;
    if (capacity > CURVE_KEYS) return -1;
    block = PyMem_RawCalloc(1, curve_block_bytes(capacity));
    if (!block) return -1;
    c->capacity = capacity;
    c->hash = (uint64_t *)block;
    c->bits = c->hash + capacity;
    c->last = (uint16_t *)(c->bits + words);
    c->cells = c->last + capacity;
    c->supers = c->cells + curve_cells(capacity);
    c->words = (uint8_t *)(c->supers + curve_super_count(capacity));
    if (old.capacity) {
        memcpy(c->hash, old.hash, old.count * sizeof *c->hash);
        memcpy(c->last, old.last, old.count * sizeof *c->last);
        memcpy(c->bits, old.bits, had * sizeof *c->bits);
        memcpy(c->words, old.words, had);
        memcpy(c->supers, old.supers, curve_super_count(old.capacity) * sizeof *c->supers);
        PyMem_RawFree(old.hash);
    }
    curve_tidy(c, 0);
    return 0;
}

/* Bins are exact to 64, then 32 to an octave. */
static inline uint32_t curve_bin_of(uint64_t distance) {
    uint32_t octave = 0;
    while (distance >> octave >= 64) octave++;
    return (octave << 5) + (uint32_t)(distance >> octave);
}

static void curve_count(curve *c, uint64_t distance, int kind, int known) {
    uint32_t bin = curve_bin_of(distance);
    uint64_t weight = (uint64_t)1 << (c->shift + CURVE_FRACTION);
    if (bin >= c->bins_count) {
        uint32_t bins = (bin / CURVE_BINS_STEP + 1) * CURVE_BINS_STEP;
        curve_bin *grown = PyMem_RawRealloc(c->bins, bins * sizeof *grown);
        if (!grown) return;
        memset(grown + c->bins_count, 0, (bins - c->bins_count) * sizeof *grown);
        c->bins = grown;
        c->bins_count = bins;
    }
    if (known)
        c->bins[bin].known[kind] += weight;
    else
        c->bins[bin].at_least[kind] += weight;
}

static inline void curve_look(curve *c) {
    c->reject = c->paused ? UINT64_MAX : c->sample & c->trail.sample;
}

static inline void curve_set_rate(curve *c, uint32_t shift) {
    c->shift = shift;
    c->sample = ((uint64_t)1 << shift) - 1;
    curve_look(c);
}

static void curve_pause(curve *c) {
    c->paused = 1;
    c->paused_at = c->hits;
    curve_look(c);
    c->wake = c->hits + CURVE_SHARE * curve_burst(c);
}

/* Requests before all counts are halved: 64 for every key there is, so that the counts tell of a
 * time in which keys came back; never so few that the curve is noise, or so many that it is old. */
static inline uint64_t curve_period(const curve *c) {
    uint64_t period = (uint64_t)c->count << c->shift << 6;
    if (period < (uint64_t)1 << 16) return (uint64_t)1 << 16;
    return period > (uint64_t)1 << 24 ? (uint64_t)1 << 24 : period;
}

static void curve_fade(curve *c) {
    uint64_t requests = c->hits + c->misses, period = curve_period(c);
    uint32_t by = 0, i, k;
    c->until_tick = CURVE_TICK;
    while (requests >> by >= period) by++;
    if (!by) return;
    if (c->paused) { /* the hits are other numbers from here: the pause begins anew */
        c->skipped_hits += c->hits - c->paused_at;
        c->paused_at = c->hits >> by;
        c->wake = c->paused_at + CURVE_SHARE * curve_burst(c);
    }
    c->hits >>= by;
    c->misses >>= by;
    c->skipped_hits >>= by;
    c->skipped_misses >>= by;
    c->cold >>= by;
    for (i = 0; i < c->bins_count; i++) {
        for (k = 0; k < 2; k++) {
            c->bins[i].known[k] >>= by;
            c->bins[i].at_least[k] >>= by;
        }
    }
    if (c->capacity) curve_tidy(c, c->faded);
    c->faded = c->now;
    if (c->shift && c->count <= CURVE_KEYS / 4) { /* fewer keys are asked for: look at more */
        curve_set_rate(c, c->shift - 1);
        c->resumed = c->now;
        c->fresh = 0;
    }
}

static void curve_resume(curve *c, uint64_t hits) {
    c->skipped_hits += hits - c->paused_at;
    c->paused = 0;
    c->wake = CURVE_NEVER;
    curve_look(c);
    c->credit = (uint32_t)curve_burst(c);
    c->resumed = c->now; /* what happened in the pause is unknown */
    c->fresh = 0;
    curve_fade(c);
}

static void curve_insert(curve *c, uint64_t hash) {
    while (c->count == c->capacity) {
        if (!curve_grow(c)) break;
        if (!c->capacity || c->shift == CURVE_RARE) return;
        curve_set_rate(c, c->shift + 1);
        curve_tidy(c, 0);
        if (hash & c->sample) return;
    }
    if (c->now == curve_window(c->capacity)) curve_tidy(c, 0);
    c->cells[curve_find(c, hash)] = (uint16_t)(c->count + 1);
    c->hash[c->count] = hash;
    c->last[c->count++] = (uint16_t)c->now;
    c->fresh++;
    curve_mark(c, c->now++);
}

static void curve_access(curve *c, uint64_t hash, int kind) {
    uint32_t cell = c->capacity ? c->cells[curve_find(c, hash)] : 0, last;
    if (!cell) {
        if (kind == CURVE_MISS && c->fresh == c->count) /* all that was asked for is known */
            c->cold += (uint64_t)1 << (c->shift + CURVE_FRACTION);
        else if (kind != CURVE_GHOST)
            curve_count(c, (uint64_t)c->fresh << c->shift, kind, 0);
        curve_insert(c, hash);
    } else {
        if (c->now == curve_window(c->capacity)) curve_tidy(c, 0);
        last = c->last[cell - 1];
        if (last < c->resumed) {
            if (kind != CURVE_GHOST) curve_count(c, (uint64_t)c->fresh << c->shift, kind, 0);
            c->fresh++;
        } else if (kind != CURVE_GHOST) {
            curve_count(c, ((uint64_t)curve_since(c, last) << c->shift) + 1, kind, 1);
        }
        curve_unmark(c, last);
        c->last[cell - 1] = (uint16_t)c->now;
        curve_mark(c, c->now++);
    }
    if (!--c->until_tick) curve_fade(c);
}

static void curve_note(curve *c, uint64_t hash, int hit) {
    if (hash & c->trail.sample) return;
    trail_note(&c->trail, hash, hit);
    curve_look(c);
}

static void curve_hit_sampled(curve *c, uint64_t hash) {
    if (c->hits == c->wake) curve_resume(c, c->hits - 1);
    if (c->paused) return;
    curve_note(c, hash, 1);
    if (hash & c->sample) return;
    curve_access(c, hash, CURVE_HIT);
    if (!--c->credit) curve_pause(c);
}

/* One hit. */
static inline void curve_hit(curve *c, uint64_t hash) {
    if ((++c->hits != c->wake) & ((hash & c->reject) != 0)) return;
    curve_hit_sampled(c, hash);
}

/* One miss: when what was missing is put, and the tier has so many entries. */
static inline void curve_miss(curve *c, uint64_t hash, uint32_t entries) {
    c->misses++;
    c->trail.entries = entries;
    if (!c->paused) {
        c->credit = c->credit < CURVE_SAVED - CURVE_GRANT ? c->credit + CURVE_GRANT : CURVE_SAVED;
    } else if (c->wake - c->hits <= CURVE_GRANT * CURVE_SHARE) {
        curve_resume(c, c->hits);
    } else {
        c->wake -= CURVE_GRANT * CURVE_SHARE;
        c->skipped_misses++;
    }
    if (!(hash & c->sample)) curve_access(c, hash, c->paused ? CURVE_GHOST : CURVE_MISS);
    if (!c->paused) curve_note(c, hash, 0);
}

/* Hits that were skipped so far, the present pause included. */
static inline uint64_t curve_skipped_hits(const curve *c) {
    return c->skipped_hits + (c->paused ? c->hits - c->paused_at : 0);
}

static inline uint32_t curve_histogram_bins(const curve *c) { return c->bins_count; }

static inline const curve_bin *curve_histogram(const curve *c) { return c->bins; }

#endif
