/* Which of the numbers 0, 1, 2, … are taken. The lowest free one is given first: what is live stays
 * together, and what lies beyond `high` was given back or never touched. One bit a number. */
#ifndef NEARCACHE_SLOTS_H
#define NEARCACHE_SLOTS_H

#include <Python.h>

#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t *bits;
    uint32_t capacity, high, live;
    uint32_t lowest; /* no word before this one has a free bit */
} slot_set;

static inline int slots_has(const slot_set *slots, uint32_t id) {
    return id < slots->high && (slots->bits[id >> 6] >> (id & 63) & 1);
}

static int slots_reserve(slot_set *slots, uint32_t capacity) {
    size_t words = ((size_t)capacity + 63) >> 6, had = ((size_t)slots->capacity + 63) >> 6;
    uint64_t *bits;
    if (capacity <= slots->capacity) return 0;
    bits = PyMem_RawRealloc(slots->bits, words * 8);
    if (!bits) return -1;
    memset(bits + had, 0, (words - had) * 8);
    slots->bits = bits;
    slots->capacity = capacity;
    return 0;
}

static inline uint32_t slots_free_bit(uint64_t word) {
#if defined(__GNUC__)
    return (uint32_t)__builtin_ctzll(~word);
#else
    uint32_t bit = 0;
    while (word >> bit & 1) bit++;
    return bit;
#endif
}

static inline uint32_t slots_take(slot_set *slots) {
    uint32_t id;
    while (slots->bits[slots->lowest] == UINT64_MAX) slots->lowest++;
    id = (slots->lowest << 6) + slots_free_bit(slots->bits[slots->lowest]);
    slots->bits[id >> 6] |= (uint64_t)1 << (id & 63);
    if (id >= slots->high) slots->high = id + 1;
    slots->live++;
    return id;
}

static inline void slots_give(slot_set *slots, uint32_t id) {
    slots->bits[id >> 6] &= ~((uint64_t)1 << (id & 63));
    if (id >> 6 < slots->lowest) slots->lowest = id >> 6;
    slots->live--;
    while (slots->high && !slots_has(slots, slots->high - 1)) slots->high--;
}

/* Make `to`, which has room for it, equal to `from`. */
static inline void slots_copy(slot_set *to, const slot_set *from) {
    memcpy(to->bits, from->bits, (((size_t)from->high + 63) >> 6) * 8);
    to->high = from->high;
    to->live = from->live;
    to->lowest = from->lowest;
}

static inline void slots_free(slot_set *slots) {
    PyMem_RawFree(slots->bits);
    memset(slots, 0, sizeof *slots);
}

#endif
