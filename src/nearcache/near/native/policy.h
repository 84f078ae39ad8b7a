/* Who leaves when a budget is full: lru, fifo, random, sieve, s3fifo, lfu, adaptive.
 *
 * The twin of near/policies/: what each of them does stands there, with its source, in words. Both
 * decide the same, to the last victim (tests/unit/near/policies/test_twins.py).
 *
 * Ids are small numbers that the tier hands out, takes back and uses again. Only policy_reserve
 * asks for memory; after it succeeded nothing can fail. Not thread-safe: the tier sees to that.
 *
 * The tier keeps the 64-bit hash of every id and says where (policy_hashes): ghosts are made of it.
 * Bytes per reserved id: random, lru, fifo 8 · sieve, lfu 9 · s3fifo 9, and 9 for its ghosts ·
 * adaptive 9, and 4 for its ghosts; its shadows take 118 kB, however large the cache.
 *
 * A new policy: a kind, its name in policy_kind, its state in the union, a case in every switch.
 */
#ifndef NEARCACHE_POLICY_H
#define NEARCACHE_POLICY_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "adaptive.h"

#define POLICY_NONE UINT32_MAX

enum {
    POLICY_LRU,
    POLICY_FIFO,
    POLICY_RANDOM,
    POLICY_SIEVE,
    POLICY_S3FIFO,
    POLICY_LFU,
    POLICY_ADAPTIVE,
    POLICY_KINDS
};

enum {
    POLICY_RING = 256,     /* lfu: as many lists as there are priorities at one time */
    POLICY_FREQUENCY = 3,  /* s3fifo: the bits of meta that count hits … */
    POLICY_IN_MAIN = 4,    /* … and the one that names the queue */
    POLICY_SMALL = 0,      /* s3fifo: list numbers */
    POLICY_MAIN = 1,
    POLICY_WORTH_KEEPING = 2
};

typedef struct policy {
    int kind;
    uint32_t lists;    /* circular; list k begins and ends at node k, id i is node lists + i */
    uint32_t most;     /* a hit raises the low bits of meta up to this; 0: it does not */
    uint32_t capacity; /* ids in use are below it */
    uint32_t size;
    uint32_t *prev, *next; /* per node; random: next[place] is an id, prev[id] its place */
    uint8_t *meta;         /* per id; null for lru, fifo, random */
    const uint64_t *hashes; /* the tier's: the hash of id i is hashes[i * stride] */
    size_t stride;
    void *block;           /* all columns in one piece: one allocation succeeds or fails */
    union {
        struct {
            uint64_t state;
        } random;
        struct {
            uint32_t hand; /* a node; list 0 itself: begin with the oldest */
        } sieve;
        struct {
            uint64_t age;
        } lfu;
        struct {
            uint32_t *places;        /* fingerprints in the order they left; `capacity` of them */
            uint32_t *ghosts;        /* open addressing, 0 is empty */
            uint32_t ghosts_size;
            uint32_t oldest, placed; /* places in use: `placed` from `oldest` */
            uint32_t alive;          /* ghosts */
            uint32_t main;           /* entries in the main queue; the others are in the small */
            int knows_size;          /* something was evicted before */
        } s3fifo;
        struct {
            adaptive_core core;
            adaptive_state *state; /* from the first reserve */
        } adaptive;
    } u;
} policy;

/* Where the hashes of the ids are; to be said again whenever they have moved. */
static inline void policy_hashes(policy *p, const uint64_t *hashes, size_t stride) {
    p->hashes = hashes;
    p->stride = stride;
}

static inline uint32_t policy_fingerprint(uint64_t hash) {
    uint32_t fingerprint = (uint32_t)(hash >> 32);
    return fingerprint ? fingerprint : 1;
}

static inline int policy_kind(const char *name) {
    static const char *const names[POLICY_KINDS] = {"lru",   "fifo",   "random",
                                                    "sieve", "s3fifo", "lfu",  "adaptive"};
    int kind;
    for (kind = 0; kind < POLICY_KINDS; kind++)
        if (!strcmp(names[kind], name)) return kind;
    return -1;
}

/* -- lists --------------------------------------------------------------------------------- */

static inline void policy_append(policy *p, uint32_t node, uint32_t list) {
    uint32_t last = p->prev[list];
    p->prev[node] = last;
    p->next[node] = list;
    p->next[last] = node;
    p->prev[list] = node;
}

static inline void policy_unlink(policy *p, uint32_t node) {
    uint32_t prev = p->prev[node], next = p->next[node];
    p->next[prev] = next;
    p->prev[next] = prev;
}

static inline void policy_replace(policy *p, uint32_t source, uint32_t target) {
    uint32_t prev = p->prev[source], next = p->next[source];
    p->prev[target] = prev;
    p->next[target] = next;
    p->next[prev] = target;
    p->prev[next] = target;
}

/* -- random: xorshift64* ------------------------------------------------------------------- */

static inline uint32_t policy_draw(policy *p, uint32_t below) {
    uint64_t x = p->u.random.state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    p->u.random.state = x;
    return (uint32_t)((x * UINT64_C(0x2545F4914F6CDD1D) >> 32) * below >> 32);
}

/* -- s3fifo: ghosts ------------------------------------------------------------------------ */

static inline uint32_t policy_share_of(uint32_t entries) { return entries / 10; }

static inline uint32_t policy_ghosts_of(uint32_t entries) {
    return (uint32_t)((uint64_t)entries * 9 / 10);
}

/* At most 0.72 full: a key that is no ghost is found to be none within about one cache line. */
static inline uint32_t policy_table_size(uint32_t capacity) { return capacity + capacity / 4 + 1; }

static inline uint32_t policy_ghost_home(const policy *p, uint32_t fingerprint) {
    return (uint32_t)((uint64_t)fingerprint * p->u.s3fifo.ghosts_size >> 32);
}

static inline uint32_t policy_ghost_next(const policy *p, uint32_t at) {
    return ++at == p->u.s3fifo.ghosts_size ? 0 : at;
}

static inline void policy_ghost_put(policy *p, uint32_t fingerprint) {
    uint32_t at = policy_ghost_home(p, fingerprint);
    while (p->u.s3fifo.ghosts[at]) at = policy_ghost_next(p, at);
    p->u.s3fifo.ghosts[at] = fingerprint;
    p->u.s3fifo.alive++;
}

/* Forgets one ghost, and says whether it was there. Those behind it that would not be found past
 * the hole move up (Knuth 6.4, algorithm R). */
static inline int policy_ghost_discard(policy *p, uint32_t fingerprint) {
    uint32_t *ghosts = p->u.s3fifo.ghosts, size = p->u.s3fifo.ghosts_size, hole, at;
    if (!p->u.s3fifo.alive) return 0;
    hole = policy_ghost_home(p, fingerprint);
    while (ghosts[hole] != fingerprint) {
        if (!ghosts[hole]) return 0;
        hole = policy_ghost_next(p, hole);
    }
    for (at = policy_ghost_next(p, hole); ghosts[at]; at = policy_ghost_next(p, at)) {
        uint32_t home = policy_ghost_home(p, ghosts[at]);
        uint32_t from_home = at >= home ? at - home : at + (size - home);
        uint32_t from_hole = at >= hole ? at - hole : at + (size - hole);
        if (from_home >= from_hole) {
            ghosts[hole] = ghosts[at];
            hole = at;
        }
    }
    ghosts[hole] = 0;
    p->u.s3fifo.alive--;
    return 1;
}

static inline void policy_ghosts_trim(policy *p, uint32_t ghosts, uint32_t places) {
    while (p->u.s3fifo.placed && (p->u.s3fifo.alive > ghosts || p->u.s3fifo.placed > places)) {
        policy_ghost_discard(p, p->u.s3fifo.places[p->u.s3fifo.oldest]);
        if (++p->u.s3fifo.oldest == p->capacity) p->u.s3fifo.oldest = 0;
        p->u.s3fifo.placed--;
    }
}

static inline void policy_ghost_add(policy *p, uint32_t fingerprint, uint32_t entries) {
    uint32_t room = policy_ghosts_of(entries), at;
    policy_ghosts_trim(p, room ? room - 1 : 0, entries - 1);
    if (!room) return;
    at = p->u.s3fifo.oldest + p->u.s3fifo.placed++;
    p->u.s3fifo.places[at >= p->capacity ? at - p->capacity : at] = fingerprint;
    policy_ghost_put(p, fingerprint);
}

/* -- life ---------------------------------------------------------------------------------- */

static inline void policy_empty_lists(policy *p) {
    uint32_t list;
    for (list = 0; list < p->lists; list++) p->prev[list] = p->next[list] = list;
}

static inline void policy_clear(policy *p) {
    if (p->block) policy_empty_lists(p);
    p->size = 0;
    if (p->kind == POLICY_SIEVE) p->u.sieve.hand = 0;
    if (p->kind == POLICY_LFU) p->u.lfu.age = 0;
    if (p->kind == POLICY_S3FIFO) {
        if (p->u.s3fifo.alive)
            memset(p->u.s3fifo.ghosts, 0, (size_t)p->u.s3fifo.ghosts_size * sizeof(uint32_t));
        p->u.s3fifo.oldest = p->u.s3fifo.placed = p->u.s3fifo.alive = p->u.s3fifo.main = 0;
        p->u.s3fifo.knows_size = 0;
    }
    if (p->kind == POLICY_ADAPTIVE && p->block) {
        adaptive_core *core = &p->u.adaptive.core;
        memset(core->ghost, 0, 32 * (size_t)core->most_buckets);
        adaptive_clear(p->u.adaptive.state, core);
    }
}

static inline int policy_init(policy *p, int kind, uint64_t seed) {
    if (kind < 0 || kind >= POLICY_KINDS) return -1;
    memset(p, 0, sizeof *p);
    p->kind = kind;
    p->lists = 1;
    switch (kind) {
    case POLICY_RANDOM:
        p->lists = 0;
        p->u.random.state = seed ^ UINT64_C(0x9E3779B97F4A7C15);
        if (!p->u.random.state) p->u.random.state = 1; /* 0 would stay 0 */
        break;
    case POLICY_SIEVE:
        p->most = 1;
        break;
    case POLICY_S3FIFO:
        p->lists = 2;
        p->most = POLICY_FREQUENCY;
        break;
    case POLICY_LFU:
        p->lists = POLICY_RING;
        break;
    case POLICY_ADAPTIVE:
        p->lists = 2;
        break;
    }
    return 0;
}

static inline void policy_free(policy *p) {
    PyMem_RawFree(p->block);
    p->block = NULL;
    if (p->kind == POLICY_ADAPTIVE) {
        PyMem_RawFree(p->u.adaptive.state);
        p->u.adaptive.state = NULL;
    }
}

static inline size_t policy_buckets(uint32_t capacity) { return (size_t)capacity / 8 + 1; }

static inline size_t policy_block_bytes(const policy *p, uint32_t capacity) {
    size_t ids = capacity, words = 2 * (p->lists + ids);
    int has_meta = p->most || p->kind == POLICY_LFU || p->kind == POLICY_ADAPTIVE;
    if (p->kind == POLICY_S3FIFO) words += ids + policy_table_size(capacity);
    if (p->kind == POLICY_ADAPTIVE) words += 8 * policy_buckets(capacity);
    return words * sizeof(uint32_t) + (has_meta ? ids + 2 : 0);
}

/* Points the columns into a block. */
static inline void policy_lay(policy *p, void *block, uint32_t capacity) {
    uint32_t *words = (uint32_t *)block;
    size_t nodes = p->lists + (size_t)capacity;
    p->block = block;
    p->capacity = capacity;
    p->prev = words;
    p->next = words + nodes;
    words += 2 * nodes;
    if (p->kind == POLICY_S3FIFO) {
        p->u.s3fifo.places = words;
        p->u.s3fifo.ghosts = words + capacity;
        p->u.s3fifo.ghosts_size = policy_table_size(capacity);
        words = p->u.s3fifo.ghosts + p->u.s3fifo.ghosts_size;
    }
    p->meta = p->most || p->kind == POLICY_LFU ? (uint8_t *)words : NULL;
    if (p->kind == POLICY_ADAPTIVE) {
        adaptive_core *core = &p->u.adaptive.core;
        core->next = p->next;
        core->prev = p->prev;
        core->ghost = words;
        core->most_buckets = (uint32_t)policy_buckets(capacity);
        core->meta = (uint8_t *)(words + 8 * policy_buckets(capacity)); /* per node */
        p->meta = core->meta + 2;
    }
}

static inline void policy_ghosts_copy(policy *to, policy *from) {
    uint32_t at, i;
    policy_ghosts_trim(from, policy_ghosts_of(to->capacity), to->capacity);
    to->u.s3fifo.alive = 0;
    if (from->u.s3fifo.alive)
        for (i = 0; i < from->u.s3fifo.ghosts_size; i++)
            if (from->u.s3fifo.ghosts[i]) policy_ghost_put(to, from->u.s3fifo.ghosts[i]);
    to->u.s3fifo.oldest = 0;
    to->u.s3fifo.placed = from->u.s3fifo.placed;
    for (i = 0, at = from->u.s3fifo.oldest; i < from->u.s3fifo.placed; i++) {
        to->u.s3fifo.places[i] = from->u.s3fifo.places[at];
        if (++at == from->capacity) at = 0;
    }
}

/* Allows the ids below capacity; those in use are. -1: no memory, and nothing has changed. */
static inline int policy_reserve(policy *p, uint32_t capacity) {
    policy fresh = *p;
    size_t both = capacity < p->capacity ? capacity : p->capacity;
    void *block;
    if (capacity == p->capacity && p->block) return 0;
    if (capacity > INT32_MAX / 4 * 3 || (uint64_t)capacity * 23 + 4096 > PY_SSIZE_T_MAX) return -1;
    /* zeros, by the page: what is spare takes no memory before it is used */
    block = PyMem_RawCalloc(1, policy_block_bytes(p, capacity) + 1);
    if (!block) return -1;
    if (p->kind == POLICY_ADAPTIVE && !p->u.adaptive.state) {
        fresh.u.adaptive.state = PyMem_RawCalloc(1, sizeof *fresh.u.adaptive.state);
        if (!fresh.u.adaptive.state) {
            PyMem_RawFree(block);
            return -1;
        }
    }
    policy_lay(&fresh, block, capacity);
    if (p->block) {
        memcpy(fresh.prev, p->prev, (p->lists + both) * sizeof *p->prev);
        memcpy(fresh.next, p->next, (p->lists + both) * sizeof *p->next);
        if (p->meta) memcpy(fresh.meta, p->meta, both);
        if (p->kind == POLICY_S3FIFO) {
            policy_ghosts_copy(&fresh, p);
        }
        if (p->kind == POLICY_ADAPTIVE) {
            adaptive_core *core = &fresh.u.adaptive.core;
            if (core->buckets > core->most_buckets) core->buckets = core->most_buckets;
            memcpy(core->ghost, p->u.adaptive.core.ghost, 32 * (size_t)core->buckets);
        }
        PyMem_RawFree(p->block);
    } else {
        policy_empty_lists(&fresh);
        if (p->kind == POLICY_ADAPTIVE)
            adaptive_clear(fresh.u.adaptive.state, &fresh.u.adaptive.core);
    }
    *p = fresh;
    return 0;
}

/* What the columns take; the ends of the 256 lists of lfu included. */
static inline size_t policy_bytes(const policy *p) {
    size_t shadows = p->kind == POLICY_ADAPTIVE ? sizeof(adaptive_state) : 0;
    return p->block ? policy_block_bytes(p, p->capacity) + shadows : 0;
}

/* -- what happens to entries --------------------------------------------------------------- */

static inline uint32_t policy_list_of(uint64_t priority) {
    return (uint32_t)(priority % POLICY_RING);
}

static inline void policy_join_main(policy *p, uint32_t id) {
    p->meta[id] |= POLICY_IN_MAIN;
    policy_append(p, p->lists + id, POLICY_MAIN);
    p->u.s3fifo.main++;
}

/* A key that was missing is now here. */
static inline void policy_insert(policy *p, uint32_t id, uint64_t hash) {
    uint32_t node = p->lists + id;
    switch (p->kind) {
    case POLICY_RANDOM:
        p->prev[id] = p->size;
        p->next[p->size] = id;
        break;
    case POLICY_S3FIFO: {
        p->meta[id] = 0;
        if (policy_ghost_discard(p, policy_fingerprint(hash)))
            policy_join_main(p, id);
        else
            policy_append(p, node, POLICY_SMALL);
        break;
    }
    case POLICY_ADAPTIVE:
        adaptive_new_entry(p->u.adaptive.state, &p->u.adaptive.core, node, hash);
        break;
    case POLICY_LFU:
        p->meta[id] = 1;
        policy_append(p, node, policy_list_of(p->u.lfu.age + 1));
        break;
    case POLICY_SIEVE:
        p->meta[id] = 0;
        policy_append(p, node, 0);
        break;
    default:
        policy_append(p, node, 0);
    }
    p->size++;
}

/* A hit, or overwritten in place. */
static inline void policy_touch(policy *p, uint32_t id, uint64_t hash) {
    uint32_t node = p->lists + id;
    if (p->kind == POLICY_ADAPTIVE) {
        adaptive_touch(p->u.adaptive.state, &p->u.adaptive.core, node, hash);
        return;
    }
    if (p->most) {
        uint8_t meta = p->meta[id];
        if ((meta & p->most) < p->most) p->meta[id] = (uint8_t)(meta + 1); /* most is 2^n - 1 */
        return;
    }
    if (p->kind == POLICY_LRU) {
        policy_unlink(p, node);
        policy_append(p, node, 0);
    } else if (p->kind == POLICY_LFU) {
        if (p->meta[id] < POLICY_RING - 1) p->meta[id]++;
        policy_unlink(p, node);
        policy_append(p, node, policy_list_of(p->u.lfu.age + p->meta[id]));
    }
}

/* A hit of this id is a few hits ahead, and then one: have what it touches in the cache by then. */
static inline void policy_far_ahead(const policy *p, uint32_t id) {
#if defined(__GNUC__)
    __builtin_prefetch(p->prev + p->lists + id);
    __builtin_prefetch(p->next + p->lists + id);
    if (p->meta) __builtin_prefetch(p->meta + id);
#endif
}

static inline void policy_ahead(const policy *p, uint32_t id) {
#if defined(__GNUC__)
    if (p->kind == POLICY_LRU || p->kind == POLICY_ADAPTIVE) {
        __builtin_prefetch(p->next + p->prev[p->lists + id]);
        __builtin_prefetch(p->prev + p->next[p->lists + id]);
    }
#endif
}

/* Deleted or expired: nothing is remembered of it. */
static inline void policy_remove(policy *p, uint32_t id) {
    uint32_t node = p->lists + id;
    p->size--;
    if (p->kind == POLICY_RANDOM) {
        uint32_t last = p->next[p->size], place = p->prev[id];
        p->next[place] = last;
        p->prev[last] = place;
        return;
    }
    if (p->kind == POLICY_SIEVE && p->u.sieve.hand == node) p->u.sieve.hand = p->next[node];
    if (p->kind == POLICY_S3FIFO && p->meta[id] & POLICY_IN_MAIN) p->u.s3fifo.main--;
    if (p->kind == POLICY_ADAPTIVE)
        adaptive_forget(&p->u.adaptive.core, node);
    else
        policy_unlink(p, node);
}

static inline uint32_t policy_evict_sieve(policy *p) {
    uint32_t node = p->u.sieve.hand;
    while (node < p->lists || p->meta[node - p->lists]) {
        if (node >= p->lists) p->meta[node - p->lists] = 0;
        node = p->next[node];
    }
    p->u.sieve.hand = node; /* policy_remove passes it on */
    return node - p->lists;
}

/* s3fifo, at the first eviction: the main queue is made of all but the oldest `share`. */
static inline void policy_place(policy *p, uint32_t share) {
    uint32_t node = p->next[POLICY_SMALL], i;
    for (i = 0; node >= p->lists; i++) {
        uint32_t next = p->next[node];
        if (i >= share) {
            policy_unlink(p, node);
            policy_join_main(p, node - p->lists);
        }
        node = next;
    }
    p->u.s3fifo.knows_size = 1;
}

static inline uint32_t policy_evict_s3fifo(policy *p) {
    uint32_t share = policy_share_of(p->size), id;
    if (!p->u.s3fifo.knows_size) policy_place(p, share);
    if (p->u.s3fifo.main <= p->size - share) {
        while (p->u.s3fifo.main < p->size) {
            id = p->next[POLICY_SMALL] - p->lists;
            if ((p->meta[id] & POLICY_FREQUENCY) < POLICY_WORTH_KEEPING) {
                policy_ghost_add(p, policy_fingerprint(p->hashes[id * p->stride]), p->size);
                return id;
            }
            policy_unlink(p, p->lists + id);
            p->meta[id] = 0;
            policy_join_main(p, id);
        }
    }
    for (;;) {
        id = p->next[POLICY_MAIN] - p->lists;
        if (!(p->meta[id] & POLICY_FREQUENCY)) return id;
        p->meta[id]--;
        policy_unlink(p, p->lists + id);
        policy_append(p, p->lists + id, POLICY_MAIN);
    }
}

static inline uint32_t policy_evict_adaptive(policy *p) {
    adaptive_state *state = p->u.adaptive.state;
    adaptive_core *core = &p->u.adaptive.core;
    int to_ghosts;
    uint32_t id;
    state->full = 1;
    state->capacity = p->size;
    adaptive_resample(state);
    adaptive_ghost_fit(core, p->size);
    id = adaptive_victim(core, p->size, ADAPTIVE_STEPS, &to_ghosts) - p->lists;
    if (to_ghosts) adaptive_ghost_put(core, adaptive_print(p->hashes[id * p->stride]));
    p->size--;
    return id;
}

/* Chooses the victim and forgets it; POLICY_NONE when there is nobody. */
static inline uint32_t policy_evict(policy *p) {
    uint32_t id;
    if (!p->size) return POLICY_NONE;
    switch (p->kind) {
    case POLICY_RANDOM:
        id = p->next[policy_draw(p, p->size)];
        break;
    case POLICY_ADAPTIVE:
        return policy_evict_adaptive(p);
    case POLICY_SIEVE:
        id = policy_evict_sieve(p);
        break;
    case POLICY_S3FIFO:
        id = policy_evict_s3fifo(p);
        break;
    case POLICY_LFU:
        while (p->next[policy_list_of(p->u.lfu.age)] < p->lists) p->u.lfu.age++;
        id = p->next[policy_list_of(p->u.lfu.age)] - p->lists;
        break;
    default:
        id = p->next[0] - p->lists;
    }
    policy_remove(p, id);
    return id;
}

/* What is in `source` gets the free id `target`; the order stays. */
static inline void policy_move(policy *p, uint32_t source, uint32_t target) {
    if (p->kind == POLICY_RANDOM) {
        p->prev[target] = p->prev[source];
        p->next[p->prev[source]] = target;
        return;
    }
    policy_replace(p, p->lists + source, p->lists + target);
    if (p->meta) p->meta[target] = p->meta[source];
    if (p->kind == POLICY_SIEVE && p->u.sieve.hand == p->lists + source)
        p->u.sieve.hand = p->lists + target;
    if (p->kind == POLICY_ADAPTIVE) p->meta[source] = 0;
}

/* -- check --------------------------------------------------------------------------------- */

#define POLICY_CHECK(holds) \
    if (!(holds)) return __LINE__

static inline int policy_check_entry(const policy *p, uint32_t id, uint32_t list) {
    if (p->kind == POLICY_LFU) { /* priority: its age when it was touched, plus its frequency */
        uint32_t above = policy_list_of(list + POLICY_RING - p->u.lfu.age % POLICY_RING);
        POLICY_CHECK(p->meta[id] >= 1 && p->meta[id] >= above);
    }
    if (p->kind == POLICY_S3FIFO) {
        POLICY_CHECK(!(p->meta[id] & POLICY_IN_MAIN) == (list == POLICY_SMALL));
    }
    if (p->kind == POLICY_ADAPTIVE) {
        POLICY_CHECK(p->meta[id] & ADAPTIVE_LIVE);
        POLICY_CHECK(!(p->meta[id] & ADAPTIVE_IN_M) == (list == ADAPTIVE_W));
    }
    if (p->kind == POLICY_SIEVE) POLICY_CHECK(p->meta[id] <= 1);
    return 0;
}

static inline int policy_check_ghosts(const policy *p) {
    uint32_t i, at, alive = 0;
    POLICY_CHECK(p->u.s3fifo.placed <= p->capacity);
    POLICY_CHECK(p->u.s3fifo.alive <= p->u.s3fifo.placed);
    POLICY_CHECK(p->u.s3fifo.alive <= policy_ghosts_of(p->capacity));
    for (i = 0; i < p->u.s3fifo.ghosts_size; i++) {
        uint32_t fingerprint = p->u.s3fifo.ghosts[i];
        if (!fingerprint) continue;
        alive++;
        for (at = policy_ghost_home(p, fingerprint); at != i; at = policy_ghost_next(p, at))
            POLICY_CHECK(p->u.s3fifo.ghosts[at]); /* no hole before it: it can be found */
    }
    POLICY_CHECK(alive == p->u.s3fifo.alive);
    return 0;
}

/* 0, or the line that found the policy inconsistent; for tests */
static inline int policy_check(const policy *p) {
    uint32_t list, i, count = 0, in_main = 0, line;
    int hand_is_there = 0;
    POLICY_CHECK(p->size <= p->capacity);
    if (!p->block) return 0;
    if (p->kind == POLICY_RANDOM) {
        for (i = 0; i < p->size; i++)
            POLICY_CHECK(p->next[i] < p->capacity && p->prev[p->next[i]] == i);
        return 0;
    }
    for (list = 0; list < p->lists; list++) {
        uint32_t previous = list, node;
        for (node = p->next[list]; node != list; node = p->next[node]) {
            POLICY_CHECK(node >= p->lists && node - p->lists < p->capacity);
            POLICY_CHECK(p->prev[node] == previous);
            POLICY_CHECK(count++ < p->size);
            if ((line = (uint32_t)policy_check_entry(p, node - p->lists, list))) return (int)line;
            if (p->kind == POLICY_SIEVE && p->u.sieve.hand == node) hand_is_there = 1;
            if (list == POLICY_MAIN) in_main++;
            previous = node;
        }
        POLICY_CHECK(p->prev[list] == previous);
    }
    POLICY_CHECK(count == p->size);
    if (p->kind == POLICY_SIEVE) POLICY_CHECK(hand_is_there || !p->u.sieve.hand);
    if (p->kind == POLICY_S3FIFO) {
        POLICY_CHECK(in_main == p->u.s3fifo.main);
        return policy_check_ghosts(p);
    }
    if (p->kind == POLICY_ADAPTIVE) {
        const adaptive_core *core = &p->u.adaptive.core;
        POLICY_CHECK(core->in_m == in_main && core->in_w + core->in_m == p->size);
        POLICY_CHECK(core->buckets && core->buckets <= core->most_buckets);
    }
    return 0;
}

#undef POLICY_CHECK

#endif
