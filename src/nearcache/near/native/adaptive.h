/* The adaptive policy: a window and a main list, whose shares are chosen by watching small shadows.
 *
 * The cache keeps a window W, in LRU order, and a main list M, FIFO with reinsertion, and evicts as
 * if the window should hold `share` of the entries: 100 % is exact LRU, 10 % is much like S3-FIFO
 * (Yang et al., SOSP 2023), 1 % stands loops. Six members of this family are played by shadows,
 * caches of a few hundred fingerprints that see a hash sample of the requests (mini-simulations,
 * Waldspurger et al., ATC 2017); the cache follows the one that has hit most of late. The same code,
 * adaptive_core, runs the cache and its shadows.
 *
 * The twin of near/policies/adaptive.py, where the algorithm stands in words. Integers only and no
 * lots: the same calls with the same hashes make the same decisions.
 */
#ifndef NEARCACHE_ADAPTIVE_H
#define NEARCACHE_ADAPTIVE_H

#include <stdint.h>
#include <string.h>

enum {
    ADAPTIVE_MEMBERS = 6,
    ADAPTIVE_WHOLE = 1024,      /* shares are in 1/1024 */
    ADAPTIVE_CREDIT = 16,       /* sampled hits that an insertion pays for … */
    ADAPTIVE_MOST_CREDIT = 4096, /* … and the most that is saved up */
    ADAPTIVE_MEMORY = 16,       /* scores fade over so many shadow capacities of requests … */
    ADAPTIVE_LEAST_MEMORY = 3000, /* … or over this many */
    ADAPTIVE_MARGIN = 5,        /* lead that a change needs, and LRU's bonus, in 1/1024 of the misses */
    ADAPTIVE_BONUS = 3,
    ADAPTIVE_SAMPLE = 768,      /* entries wanted in a shadow at most; smaller caches are not sampled */
    ADAPTIVE_ROOM = 832,        /* … and room for them: samples vary */
    ADAPTIVE_INDEX = 2048,
    ADAPTIVE_GHOSTS = 148,      /* buckets of a shadow's ghosts */
    ADAPTIVE_STEPS = 8,         /* entries that become main per eviction after the window shrank */
    ADAPTIVE_W = 0,             /* nodes of the two lists; id i is node i + 2 */
    ADAPTIVE_M = 1,
    ADAPTIVE_HITS = 3,          /* in meta: hits since it came, at most 3; in M; in use */
    ADAPTIVE_IN_M = 4,
    ADAPTIVE_LIVE = 8
};

static const uint32_t ADAPTIVE_SHARE[ADAPTIVE_MEMBERS] = {1024, 614, 307, 102, 10, 10};
/* one in so many ghosts that come back goes to M; the last member is for loops */
static const uint32_t ADAPTIVE_ADMIT[ADAPTIVE_MEMBERS] = {1, 1, 1, 1, 1, 4};

typedef struct {
    uint32_t *next, *prev; /* per node; from the head, next is the newest */
    uint8_t *meta;         /* per node */
    uint32_t *ghost;       /* buckets of 8 fingerprints, the newest first; 0 is none, harmlessly */
    uint32_t buckets, most_buckets;
    uint32_t in_w, in_m;
    uint32_t share, admit, skipped, freezing;
} adaptive_core;

typedef struct {
    adaptive_core core;
    uint32_t next[ADAPTIVE_ROOM + 2], prev[ADAPTIVE_ROOM + 2], print[ADAPTIVE_ROOM + 2];
    uint32_t ghost[8 * ADAPTIVE_GHOSTS];
    uint8_t meta[ADAPTIVE_ROOM + 2];
    uint16_t index[ADAPTIVE_INDEX]; /* fingerprint -> node, 0 is empty */
    uint32_t free, used, score;
} adaptive_shadow;

typedef struct {
    uint32_t capacity, full, shift, member, credit, seen, since;
    adaptive_shadow shadows[ADAPTIVE_MEMBERS];
} adaptive_state;

static inline uint32_t adaptive_print(uint64_t hash) {
    return (uint32_t)(hash * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* -- the family ---------------------------------------------------------------------------- */

static inline void adaptive_unlink(adaptive_core *c, uint32_t node) {
    c->next[c->prev[node]] = c->next[node];
    c->prev[c->next[node]] = c->prev[node];
}

static inline void adaptive_push(adaptive_core *c, uint32_t list, uint32_t node) {
    c->next[node] = c->next[list];
    c->prev[node] = list;
    c->prev[c->next[node]] = node;
    c->next[list] = node;
}

static inline uint32_t *adaptive_bucket(adaptive_core *c, uint32_t print) {
    return c->ghost + 8 * (uint32_t)((uint64_t)print * c->buckets >> 32);
}

static inline void adaptive_ghost_put(adaptive_core *c, uint32_t print) {
    uint32_t *bucket = adaptive_bucket(c, print), kept[7];
    memcpy(kept, bucket, sizeof kept); /* through registers: memmove would be a call */
    bucket[0] = print;
    memcpy(bucket + 1, kept, sizeof kept);
}

static inline int adaptive_ghost_take(adaptive_core *c, uint32_t print) {
    uint32_t *bucket = adaptive_bucket(c, print);
    int i;
    for (i = 0; i < 8; i++) {
        if (bucket[i] != print) continue;
        memmove(bucket + i, bucket + i + 1, (size_t)(7 - i) * sizeof *bucket);
        bucket[7] = 0;
        return 1;
    }
    return 0;
}

/* Room for `want` ghosts. Most are not found any more after it, so it is done seldom. */
static inline void adaptive_ghost_fit(adaptive_core *c, uint64_t want) {
    uint64_t have = 8 * (uint64_t)c->buckets, buckets = (want + 4) / 8;
    if (want <= have + have / 4 + 8 && want >= have - have / 4) return;
    if (buckets > c->most_buckets) buckets = c->most_buckets;
    c->buckets = buckets ? (uint32_t)buckets : 1;
}

static inline void adaptive_core_clear(adaptive_core *c, int member) {
    c->next[ADAPTIVE_W] = c->prev[ADAPTIVE_W] = ADAPTIVE_W;
    c->next[ADAPTIVE_M] = c->prev[ADAPTIVE_M] = ADAPTIVE_M;
    c->share = ADAPTIVE_SHARE[member];
    c->admit = ADAPTIVE_ADMIT[member];
    c->freezing = c->buckets = 1;
    c->in_w = c->in_m = c->skipped = 0;
}

static inline void adaptive_hit(adaptive_core *c, uint32_t node) {
    if ((c->meta[node] & ADAPTIVE_HITS) < ADAPTIVE_HITS) c->meta[node]++;
    if (c->meta[node] & ADAPTIVE_IN_M) {
        if (c->share < ADAPTIVE_WHOLE) return; /* the usual hit in M touches no list */
        c->in_m--;
        c->in_w++;
        c->meta[node] &= (uint8_t)~ADAPTIVE_IN_M; /* LRU takes what is used back into W */
    }
    adaptive_unlink(c, node);
    adaptive_push(c, ADAPTIVE_W, node);
}

static inline void adaptive_insert(adaptive_core *c, uint32_t node, uint32_t print) {
    int main =
        adaptive_ghost_take(c, print) && c->share < ADAPTIVE_WHOLE && ++c->skipped >= c->admit;
    if (main) {
        c->skipped = 0;
        c->in_m++;
    } else {
        c->in_w++;
    }
    c->meta[node] = main ? ADAPTIVE_LIVE | ADAPTIVE_IN_M : ADAPTIVE_LIVE;
    adaptive_push(c, main ? ADAPTIVE_M : ADAPTIVE_W, node);
}

static inline void adaptive_forget(adaptive_core *c, uint32_t node) {
    adaptive_unlink(c, node);
    if (c->meta[node] & ADAPTIVE_IN_M)
        c->in_m--;
    else
        c->in_w--;
    c->meta[node] = 0;
}

static inline void adaptive_to_main(adaptive_core *c, uint32_t node, uint8_t hits) {
    adaptive_unlink(c, node);
    adaptive_push(c, ADAPTIVE_M, node);
    c->meta[node] = (uint8_t)(ADAPTIVE_LIVE | ADAPTIVE_IN_M | hits);
    c->in_w--;
    c->in_m++;
}

/* Chooses a victim and forgets it; there must be an entry. `to_ghosts` says whether it is to be
 * remembered, which the caller does: it knows the fingerprint. */
static inline uint32_t adaptive_victim(adaptive_core *c, uint32_t capacity, uint32_t steps,
                                       int *to_ghosts) {
    uint32_t want = (uint32_t)((uint64_t)capacity * c->share >> 10), node;
    if (!want) want = 1;
    if (c->freezing) {
        /* when the window shrinks its old end becomes main as it is: that is what wins on loops,
         * where nothing has been hit yet */
        for (; steps && c->in_w > want; steps--) {
            node = c->prev[ADAPTIVE_W];
            adaptive_to_main(c, node, c->meta[node] & ADAPTIVE_HITS);
        }
        if (c->in_w <= want) c->freezing = 0;
    }
    while (!c->freezing && c->in_w && (c->in_w >= want || !c->in_m)) {
        node = c->prev[ADAPTIVE_W];
        if (c->share < ADAPTIVE_WHOLE && (c->meta[node] & ADAPTIVE_HITS) &&
            (c->in_m || c->in_w > 1)) {
            adaptive_to_main(c, node, 0);
            continue;
        }
        adaptive_forget(c, node);
        *to_ghosts = 1;
        return node;
    }
    while (node = c->prev[ADAPTIVE_M], c->meta[node] & ADAPTIVE_HITS) {
        c->meta[node]--;
        adaptive_unlink(c, node);
        adaptive_push(c, ADAPTIVE_M, node);
    }
    adaptive_forget(c, node);
    *to_ghosts = 0;
    return node;
}

/* -- shadows: the family again, with an index of fingerprints --------------------------------- */

static inline uint32_t adaptive_home(uint32_t print) { return print * 0x9E3779B1u >> 21; }

static inline uint32_t adaptive_find(const adaptive_shadow *s, uint32_t print) {
    uint32_t at = adaptive_home(print);
    while (s->index[at] && s->print[s->index[at]] != print) at = (at + 1) % ADAPTIVE_INDEX;
    return at;
}

static inline void adaptive_shadow_drop(adaptive_shadow *s, uint32_t node) {
    uint32_t gap = adaptive_find(s, s->print[node]), at = gap, other;
    while (at = (at + 1) % ADAPTIVE_INDEX, other = s->index[at]) {
        uint32_t home = adaptive_home(s->print[other]);
        if ((at - home) % ADAPTIVE_INDEX >= (at - gap) % ADAPTIVE_INDEX) {
            s->index[gap] = (uint16_t)other;
            gap = at;
        }
    }
    s->index[gap] = 0;
    s->next[node] = s->free;
    s->free = node;
}

static inline void adaptive_shadow_clear(adaptive_shadow *s, int member) {
    memset(s, 0, sizeof *s);
    s->core.next = s->next;
    s->core.prev = s->prev;
    s->core.meta = s->meta;
    s->core.ghost = s->ghost;
    s->core.most_buckets = ADAPTIVE_GHOSTS;
    s->used = 2;
    adaptive_core_clear(&s->core, member);
}

static inline void adaptive_shadow_request(adaptive_shadow *s, uint32_t print, uint32_t capacity,
                                           uint32_t full) {
    uint32_t node = s->index[adaptive_find(s, print)], most = full ? capacity : ADAPTIVE_ROOM;
    int to_ghosts;
    if (node) {
        s->score += full;
        adaptive_hit(&s->core, node);
        return;
    }
    while (s->core.in_w + s->core.in_m >= most) {
        node = adaptive_victim(&s->core, capacity, ADAPTIVE_ROOM, &to_ghosts);
        if (to_ghosts) adaptive_ghost_put(&s->core, s->print[node]);
        adaptive_shadow_drop(s, node);
    }
    if (s->free) {
        node = s->free;
        s->free = s->next[node];
    } else {
        node = s->used++;
    }
    adaptive_insert(&s->core, node, print);
    s->print[node] = print;
    s->index[adaptive_find(s, print)] = (uint16_t)node;
}

/* -- sampling and choosing ------------------------------------------------------------------ */

static inline int adaptive_is_sampled(const adaptive_state *a, uint32_t print) {
    return !(print & ((1u << a->shift) - 1));
}

/* Keep the shadows' capacity, capacity >> shift, between a third of the sample and the whole. */
static inline void adaptive_resample(adaptive_state *a) {
    while (a->capacity >> a->shift > ADAPTIVE_SAMPLE) {
        uint32_t member, node;
        a->shift++;
        for (member = 0; member < ADAPTIVE_MEMBERS; member++) {
            adaptive_shadow *s = &a->shadows[member];
            for (node = 2; node < s->used; node++) {
                if (!(s->meta[node] & ADAPTIVE_LIVE) || adaptive_is_sampled(a, s->print[node]))
                    continue;
                adaptive_forget(&s->core, node);
                adaptive_shadow_drop(s, node);
            }
        }
    }
    while (a->shift && a->capacity >> a->shift < ADAPTIVE_SAMPLE / 3) a->shift--;
}

static inline void adaptive_decide(adaptive_state *a, adaptive_core *c) {
    uint64_t score[ADAPTIVE_MEMBERS], top, misses = a->seen - a->shadows[a->member].score;
    uint32_t best = a->member, member;
    for (member = 0; member < ADAPTIVE_MEMBERS; member++)
        score[member] = (uint64_t)a->shadows[member].score << 10;
    score[0] += misses * ADAPTIVE_BONUS;
    top = score[best];
    if (best && score[0] >= top) { /* back to LRU, without a lead */
        best = 0;
        top = score[0];
    }
    top += misses * ADAPTIVE_MARGIN;
    for (member = 1; member < ADAPTIVE_MEMBERS; member++) {
        if (score[member] <= top) continue;
        best = member;
        top = score[member];
    }
    if (best == a->member) return;
    c->freezing = ADAPTIVE_SHARE[best] < ADAPTIVE_SHARE[a->member];
    c->share = ADAPTIVE_SHARE[best];
    c->admit = ADAPTIVE_ADMIT[best];
    a->member = best;
}

static void adaptive_feed(adaptive_state *a, adaptive_core *c, uint32_t print) {
    uint32_t capacity = a->capacity >> a->shift, memory, member;
    if (capacity < 2) capacity = 2;
    for (member = 0; member < ADAPTIVE_MEMBERS; member++) {
        adaptive_ghost_fit(&a->shadows[member].core, (uint64_t)capacity * 3 / 2);
        adaptive_shadow_request(&a->shadows[member], print, capacity, a->full);
    }
    if (!a->full) return; /* nothing was evicted so far: all members are alike */
    a->seen++;
    memory = ADAPTIVE_MEMORY * capacity;
    if (memory < ADAPTIVE_LEAST_MEMORY) memory = ADAPTIVE_LEAST_MEMORY;
    if (++a->since < memory / 16) return;
    a->since = 0;
    adaptive_decide(a, c);
    a->seen -= a->seen >> 4;
    for (member = 0; member < ADAPTIVE_MEMBERS; member++)
        a->shadows[member].score -= a->shadows[member].score >> 4;
}

static inline void adaptive_clear(adaptive_state *a, adaptive_core *c) {
    int member;
    for (member = 0; member < ADAPTIVE_MEMBERS; member++)
        adaptive_shadow_clear(&a->shadows[member], member);
    a->capacity = a->full = a->shift = a->member = a->credit = a->seen = a->since = 0;
    adaptive_core_clear(c, 0);
}

static inline void adaptive_new_entry(adaptive_state *a, adaptive_core *c, uint32_t node,
                                      uint64_t hash) {
    uint32_t print = adaptive_print(hash);
    adaptive_insert(c, node, print);
    if (c->in_w + c->in_m > a->capacity) {
        a->capacity = c->in_w + c->in_m;
        adaptive_resample(a);
    }
    a->credit += ADAPTIVE_CREDIT;
    if (a->credit > ADAPTIVE_MOST_CREDIT) a->credit = ADAPTIVE_MOST_CREDIT;
    if (adaptive_is_sampled(a, print)) adaptive_feed(a, c, print);
}

/* A hit. Where misses are rare there is no credit, and the shadows cost nothing. */
static inline void adaptive_touch(adaptive_state *a, adaptive_core *c, uint32_t node,
                                  uint64_t hash) {
    adaptive_hit(c, node);
    if (a->credit) {
        uint32_t print = adaptive_print(hash);
        if (adaptive_is_sampled(a, print)) {
            a->credit--;
            adaptive_feed(a, c, print);
        }
    }
}

#endif
