/* When entries with a limited life end: a binary heap of (time, id), the next to end on top.
 *
 * An entry that leaves or gets another life stays in the heap until it comes up: whoever takes it
 * out compares its time with the entry's own. Stale ones are weeded out when they outnumber the
 * others. Nothing is ever scanned to find out what has expired.
 */
#ifndef NEARCACHE_LIVES_H
#define NEARCACHE_LIVES_H

#include <Python.h>

#include <math.h>
#include <stdint.h>

typedef struct {
    double *at;
    uint32_t *id;
    uint32_t count, capacity;
} life_heap;

static int lives_reserve(life_heap *heap, uint64_t count) {
    uint64_t capacity = (uint64_t)heap->capacity * 2;
    double *at;
    uint32_t *id;
    if (count <= heap->capacity) return 0;
    if (capacity < count) capacity = count;
    if (capacity >= UINT32_MAX) return -1;
    if (!(at = PyMem_RawRealloc(heap->at, capacity * sizeof *at))) return -1;
    heap->at = at;
    if (!(id = PyMem_RawRealloc(heap->id, capacity * sizeof *id))) return -1;
    heap->id = id;
    heap->capacity = (uint32_t)capacity;
    return 0;
}

static inline double lives_next(const life_heap *heap) {
    return heap->count ? heap->at[0] : HUGE_VAL;
}

static inline void lives_add(life_heap *heap, double at, uint32_t id) {
    uint32_t child = heap->count++;
    while (child) {
        uint32_t parent = (child - 1) / 2;
        if (heap->at[parent] <= at) break;
        heap->at[child] = heap->at[parent];
        heap->id[child] = heap->id[parent];
        child = parent;
    }
    heap->at[child] = at;
    heap->id[child] = id;
}

static inline void lives_sink(life_heap *heap, uint32_t hole, double at, uint32_t id) {
    uint32_t child;
    while ((child = 2 * hole + 1) < heap->count) {
        if (child + 1 < heap->count && heap->at[child + 1] < heap->at[child]) child++;
        if (at <= heap->at[child]) break;
        heap->at[hole] = heap->at[child];
        heap->id[hole] = heap->id[child];
        hole = child;
    }
    heap->at[hole] = at;
    heap->id[hole] = id;
}

static inline uint32_t lives_pop(life_heap *heap) {
    uint32_t id = heap->id[0];
    heap->count--;
    if (heap->count) lives_sink(heap, 0, heap->at[heap->count], heap->id[heap->count]);
    return id;
}

static inline void lives_free(life_heap *heap) {
    PyMem_RawFree(heap->at);
    PyMem_RawFree(heap->id);
    memset(heap, 0, sizeof *heap);
}

#endif
