/* The near tier's name of a text: 128 bits under a secret that every process draws anew.
 *
 * Whoever does not know the secret cannot make two texts with one name, so a name stands for its
 * text and the text need not be kept. Three steps, each with a proof:
 *   1. NH (Black et al., "UMAC", CRYPTO 1999) compresses blocks of 1024 bytes to 16: two texts of
 *      one length collide with probability 2^-64;
 *   2. longer texts: NH again over the results, with keys of its own for each level of the tree;
 *   3. multiply-shift (Dietzfelbinger, 1996) over result, length and shelf: 64 uniform bits.
 * Two instances of it (the second uses NH keys shifted by a pair, as in UMAC) make 128 bits. A text
 * of 500 characters costs about 35 ns, a tenth of SipHash.
 */
#ifndef NEARCACHE_HASH_H
#define NEARCACHE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

enum { HASH_BLOCK = 1024, HASH_FAN = HASH_BLOCK / 16, HASH_LEVELS = 6 };

typedef struct {
    uint64_t lo, hi;
} wide; /* 128 bits */

typedef struct {
    uint64_t a, b;
} name128;

typedef struct {
    uint64_t nh[HASH_LEVELS][HASH_BLOCK / 8 + 2];
    wide last[2][5];
} hash_key; /* filled with random bytes */

static inline wide wide_product(uint64_t x, uint64_t y) {
    wide product;
#if defined(__SIZEOF_INT128__)
    unsigned __int128 full = (unsigned __int128)x * y;
    product.lo = (uint64_t)full;
    product.hi = (uint64_t)(full >> 64);
#elif defined(_M_X64)
    product.lo = _umul128(x, y, &product.hi);
#else
    product.lo = x * y;
    product.hi = __umulh(x, y);
#endif
    return product;
}

static inline void wide_add(wide *sum, wide other) {
    sum->lo += other.lo;
    sum->hi += other.hi + (sum->lo < other.lo);
}

static inline uint64_t hash_word(const unsigned char *from) {
    uint64_t word;
    memcpy(&word, from, 8);
    return word;
}

/* Both instances of NH over at most a block; the last pair of words is filled up with zeros. */
static inline void hash_block(const uint64_t *key, const unsigned char *from, size_t size,
                              wide out[2]) {
    wide first = {0, 0}, second = {0, 0};
    size_t at = 0;
    for (; at + 16 <= size; at += 16, key += 2) {
        uint64_t x = hash_word(from + at), y = hash_word(from + at + 8);
        wide_add(&first, wide_product(x + key[0], y + key[1]));
        wide_add(&second, wide_product(x + key[2], y + key[3]));
    }
    if (at < size) {
        unsigned char rest[16] = {0};
        memcpy(rest, from + at, size - at);
        uint64_t x = hash_word(rest), y = hash_word(rest + 8);
        wide_add(&first, wide_product(x + key[0], y + key[1]));
        wide_add(&second, wide_product(x + key[2], y + key[3]));
    }
    out[0] = first;
    out[1] = second;
}

/* A tree of blocks: level 0 reads the text, every other the results of the level below. */
static void hash_tree(const hash_key *key, int level, const unsigned char *from, size_t size,
                      wide out[2]) {
    wide results[2][HASH_FAN], one[2], unused[2];
    size_t span = HASH_BLOCK, count = 0;
    int below;
    if (!level) {
        hash_block(key->nh[0], from, size, out);
        return;
    }
    for (below = 1; below < level; below++) span *= HASH_FAN;
    for (; size; count++) {
        size_t part = size < span ? size : span;
        hash_tree(key, level - 1, from, part, one);
        results[0][count] = one[0];
        results[1][count] = one[1];
        from += part;
        size -= part;
    }
    hash_block(key->nh[level], (const unsigned char *)results[0], count * 16, unused);
    out[0] = unused[0];
    hash_block(key->nh[level], (const unsigned char *)results[1], count * 16, unused);
    out[1] = unused[1];
}

static inline uint64_t hash_last(const wide *key, wide text, uint64_t size, uint64_t shelf) {
    const uint64_t words[4] = {text.lo, text.hi, size, shelf};
    wide sum = key[4];
    int i;
    for (i = 0; i < 4; i++) {
        wide product = wide_product(key[i].lo, words[i]);
        product.hi += key[i].hi * words[i];
        wide_add(&sum, product);
    }
    return sum.hi;
}

/* `width` is the bytes of a character: equal bytes of different widths are different texts. */
static inline name128 hash_text(const hash_key *key, const void *from, size_t size, int width,
                                uint32_t shelf) {
    wide text[2];
    name128 name;
    if (size <= HASH_BLOCK) {
        hash_block(key->nh[0], (const unsigned char *)from, size, text);
    } else {
        size_t reach = HASH_BLOCK;
        int level = 0;
        while (reach < size) {
            level++;
            if (level == HASH_LEVELS - 1) break; /* 2^40 bytes: no text is longer */
            reach *= HASH_FAN;
        }
        hash_tree(key, level, (const unsigned char *)from, size, text);
    }
    uint64_t length = (uint64_t)size << 3 | (uint64_t)width;
    name.a = hash_last(key->last[0], text[0], length, shelf);
    name.b = hash_last(key->last[1], text[1], length, shelf);
    return name;
}

/* 64 bits well spread (the finaliser of splitmix64), under the secret. */
static inline uint64_t hash_mixed(const hash_key *key, uint64_t x) {
    x ^= key->nh[0][0];
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#endif
