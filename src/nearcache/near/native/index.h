/* An index: from the 64-bit hash of a name to the id of the entry that has it.
 *
 * Open addressing with linear probing in cells of 8 bytes: 32 bits of the hash and the id. The home
 * of a cell follows from those 32 bits, so growing and removing read nothing but the cells, and a
 * lookup visits an entry's own memory only when 32 bits agree. Its size is no power of two: it grows
 * by a quarter, and costs 10.7 to 13.3 bytes an entry.
 */
#ifndef NEARCACHE_INDEX_H
#define NEARCACHE_INDEX_H

#include <Python.h>

#include <stdint.h>

#define NO_ID UINT32_MAX

typedef struct {
    uint64_t *cells; /* tag << 32 | id + 1; 0 is empty */
    uint32_t size, used;
} hash_index;

static inline uint32_t index_home(const hash_index *index, uint64_t cell) {
    return (uint32_t)((cell >> 32) * index->size >> 32);
}

static inline uint32_t index_next(const hash_index *index, uint32_t at) {
    return ++at == index->size ? 0 : at;
}

/* for (at = home; (id = index_at(...)) != NO_ID; ) visits the ids whose 32 bits agree */
static inline uint32_t index_seek(const hash_index *index, uint64_t hash, uint32_t *at) {
    uint64_t cell, tag = hash >> 32;
    while ((cell = index->cells[*at])) {
        *at = index_next(index, *at);
        if (cell >> 32 == tag) return (uint32_t)cell - 1;
    }
    return NO_ID;
}

static inline void index_put(hash_index *index, uint64_t hash, uint32_t id) {
    uint64_t cell = (hash >> 32 << 32) | (id + 1);
    uint32_t at = index_home(index, cell);
    while (index->cells[at]) at = index_next(index, at);
    index->cells[at] = cell;
    index->used++;
}

static inline uint32_t index_cell(const hash_index *index, uint64_t hash, uint32_t id) {
    uint64_t cell = (hash >> 32 << 32) | (id + 1);
    uint32_t at = index_home(index, cell);
    while (index->cells[at] != cell) at = index_next(index, at);
    return at;
}

/* What follows moves up, so that no lookup meets a gap before what it looks for. */
static inline void index_take(hash_index *index, uint64_t hash, uint32_t id) {
    uint32_t gap = index_cell(index, hash, id), at = gap;
    uint64_t cell;
    while ((cell = index->cells[at = index_next(index, at)])) {
        uint32_t home = index_home(index, cell);
        /* may it move to the gap? only if its home does not lie between gap and here */
        if (gap < at ? (home <= gap || home > at) : (home <= gap && home > at)) {
            index->cells[gap] = cell;
            gap = at;
        }
    }
    index->cells[gap] = 0;
    index->used--;
}

static inline void index_rename(hash_index *index, uint64_t hash, uint32_t from, uint32_t to) {
    index->cells[index_cell(index, hash, from)] = (hash >> 32 << 32) | (to + 1);
}

/* Make room for `count` entries; -1 when there is no memory, and nothing has changed. */
static int index_resize(hash_index *index, uint32_t size) {
    hash_index grown = {PyMem_RawCalloc(size, sizeof(uint64_t)), size, index->used};
    uint32_t i;
    if (!grown.cells) return -1;
    for (i = 0; i < index->size; i++) {
        uint64_t cell = index->cells[i];
        if (cell) {
            uint32_t at = index_home(&grown, cell);
            while (grown.cells[at]) at = index_next(&grown, at);
            grown.cells[at] = cell;
        }
    }
    PyMem_RawFree(index->cells);
    *index = grown;
    return 0;
}

static inline uint64_t index_needs(uint64_t count) { return count + count / 3 + 8; }

static inline int index_reserve(hash_index *index, uint64_t count) {
    uint64_t least = index_needs(count), size = index->size;
    if (size >= least) return 0;
    size += size / 4;
    if (size < least) size = least;
    if (size >= UINT32_MAX) return -1;
    return index_resize(index, (uint32_t)size);
}

static inline void index_free(hash_index *index) {
    PyMem_RawFree(index->cells);
    index->cells = NULL;
    index->size = index->used = 0;
}

#endif
