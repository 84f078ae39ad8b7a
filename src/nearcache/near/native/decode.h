/* Packed rows to float32: bit for bit what numpy makes of them. */
#ifndef NEARCACHE_DECODE_H
#define NEARCACHE_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { ROW_FLOAT32, ROW_FLOAT16, ROW_INT8 };

/* The compiler makes the loops below wide; which width the machine has is found out at run time. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && \
    !defined(__clang__) && !defined(NEARCACHE_SANITIZED)
#define ROW_CLONES __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define ROW_CLONES
#endif

ROW_CLONES static void row_from_int8(float *restrict to, const int8_t *restrict from, size_t size,
                                     float scale) {
    size_t i;
    for (i = 0; i < size; i++) to[i] = (float)from[i] * scale;
}

/* IEEE half to single without a branch: the exponent is shifted by a product, which is exact for
 * every half, subnormal ones included; infinity and NaN are not kept here. */
ROW_CLONES static void row_from_float16(float *restrict to, const uint16_t *restrict from,
                                        size_t size) {
    const uint32_t rebias = 0x77800000; /* 2^112 */
    float shift;
    size_t i;
    memcpy(&shift, &rebias, 4);
    for (i = 0; i < size; i++) {
        uint32_t half = from[i], sign = (half & 0x8000) << 16, bits = (half & 0x7fff) << 13;
        float value;
        memcpy(&value, &bits, 4);
        value *= shift;
        memcpy(&bits, &value, 4);
        bits |= sign;
        memcpy(&to[i], &bits, 4);
    }
}

static inline void row_decode(float *to, const void *from, size_t size, int kind, float scale) {
    if (kind == ROW_FLOAT32)
        memcpy(to, from, size * 4);
    else if (kind == ROW_FLOAT16)
        row_from_float16(to, (const uint16_t *)from, size);
    else
        row_from_int8(to, (const int8_t *)from, size, scale);
}

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)0)
#endif

#endif
