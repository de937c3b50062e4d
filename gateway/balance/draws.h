/* The draws of rendezvous.pyx, eight servers at a time: one loop, compiled once for any processor and once for AVX2. */
#ifndef GATEWAY_BALANCE_DRAWS_H
#define GATEWAY_BALANCE_DRAWS_H

#include <stdint.h>

#define LANES 8
#define ROWS 8      /* a cell has the smallest of so many draws, LANES apart */
#define WIDE __attribute__((vector_size(4 * LANES), aligned(4), may_alias))

typedef uint32_t words WIDE;
typedef int32_t whole WIDE;
typedef float reals WIDE;

/* The draw of a server for a key, each of two words: 1 to 2^31 - 1. Three rounds in the manner of MurmurHash3. */
#define MIXED(x, high, k1) \
    x ^= x >> 15; x = (x + ((high) ^ (k1))) * 0xc2b2ae35u; x ^= x >> 13; x *= 0x27d4eb2fu; x ^= x >> 16; \
    x = x >> 1 | 1;

static inline uint32_t one_draw(uint32_t low, uint32_t high, uint32_t k0, uint32_t k1) {
    uint32_t x = (low ^ k0) * 0x85ebca6bu;
    MIXED(x, high, k1)
    return x;
}

/* n, a multiple of LANES, draws times `inverse`; positive floats compare as their bits do. */
#define DRAW(name, target) \
    target static void name(const uint32_t *low, const uint32_t *high, const float *inverse, int n, uint32_t k0, \
                            uint32_t k1, float *draw, float *least) { \
        for (int i = 0; i < n; least += LANES) { \
            whole smallest = (whole){0} + INT32_MAX; \
            for (int row = 0; row < ROWS && i < n; row++, i += LANES) { \
                words x = (*(const words *)(low + i) ^ k0) * 0x85ebca6bu; \
                MIXED(x, *(const words *)(high + i), k1) \
                reals d = __builtin_convertvector((whole)x, reals) * *(const reals *)(inverse + i); \
                *(reals *)(draw + i) = d; \
                whole less = (whole)d < smallest; \
                smallest = (less & (whole)d) | (~less & smallest); \
            } \
            *(whole *)least = smallest; \
        } \
    }

DRAW(draw_anywhere, )
#ifdef __x86_64__
DRAW(draw_avx2, __attribute__((target("avx2"))))
#endif

static void draw_all(const uint32_t *low, const uint32_t *high, const float *inverse, int n, uint32_t k0,
                     uint32_t k1, float *draw, float *least) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        draw_avx2(low, high, inverse, n, k0, k1, draw, least);
        return;
    }
#endif
    draw_anywhere(low, high, inverse, n, k0, k1, draw, least);
}

#endif
