"""Many bytes at a step: where the first byte is that is not of a kind. SSE2 where there is any, else eight in a word.

until_control, until_odd_name and copy_plain look at WIDE bytes at `p`, which must be readable, and return 0 to WIDE:
how many come before the first hit. The others read and write no byte beyond the lengths that they are given.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    enum { WIDE = 16 };

    static inline __m128i wide_control(__m128i v)
    {
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(31)), v);
        return _mm_or_si128(low, _mm_cmpeq_epi8(v, _mm_set1_epi8(127)));
    }

    static inline unsigned wide_first(__m128i hits)
    {
        return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(hits) | 0x10000u);
    }

    static inline unsigned wide_until_control(const char *p)
    {
        return wide_first(wide_control(_mm_loadu_si128((const __m128i *)p)));
    }

    static inline unsigned wide_copy_plain(char *to, const char *p)
    {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i hits = _mm_or_si128(wide_control(v), v);    /* the high bit of a byte is all that is looked at */
        hits = _mm_or_si128(hits, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
        hits = _mm_or_si128(hits, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\\\')));
        _mm_storeu_si128((__m128i *)to, v);
        return wide_first(hits);
    }

    static inline __m128i wide_up_to(__m128i v, char most)
    {
        return _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(most)), v);
    }

    static inline unsigned wide_until_odd_name(const char *p)
    {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i letter = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(32)), _mm_set1_epi8('a'));
        __m128i digit = _mm_sub_epi8(v, _mm_set1_epi8('0'));
        __m128i good = _mm_or_si128(wide_up_to(letter, 25), wide_up_to(digit, 9));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
        return (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(good));
    }

    static inline unsigned wide_newlines_16(const char *p)
    {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        return (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(10)));
    }

    static inline uint64_t wide_newlines(const char *p)
    {
        uint64_t low = wide_newlines_16(p) | wide_newlines_16(p + 16) << 16;
        uint64_t high = wide_newlines_16(p + 32) | wide_newlines_16(p + 48) << 16;
        return low | high << 32;
    }

    /* Sixteen bytes, and which of them are plain: the bytes of this are all ones or all zeros. */
    typedef __m128i wide_16;

    static inline wide_16 wide_16_of(const char *p)
    {
        return _mm_loadu_si128((const __m128i *)p);
    }

    static inline wide_16 wide_16_of_words(uint64_t a, uint64_t b)
    {
        return _mm_set_epi64x((long long)b, (long long)a);
    }

    static inline void wide_16_put(char *to, wide_16 v)
    {
        _mm_storeu_si128((__m128i *)to, v);
    }

    static inline wide_16 wide_16_odd(wide_16 v)
    {
        __m128i odd = _mm_cmpeq_epi8(v, _mm_set1_epi8(127));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(v, _mm_set1_epi8('"')));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(v, _mm_set1_epi8('\\\\')));
        return _mm_or_si128(odd, _mm_cmplt_epi8(v, _mm_set1_epi8(32)));     /* signed: also what has its high bit set */
    }

    static inline wide_16 wide_16_or(wide_16 a, wide_16 b)
    {
        return _mm_or_si128(a, b);
    }

    static inline wide_16 wide_16_breaks(wide_16 v)
    {
        __m128i hits = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(10)), _mm_cmpeq_epi8(v, _mm_set1_epi8(13)));
        return _mm_or_si128(hits, _mm_cmpeq_epi8(v, _mm_setzero_si128()));
    }

    static inline wide_16 wide_16_no_lower(wide_16 v)
    {
        __m128i good = wide_up_to(_mm_sub_epi8(v, _mm_set1_epi8('a')), 25);
        good = _mm_or_si128(good, wide_up_to(_mm_sub_epi8(v, _mm_set1_epi8('0')), 9));
        good = _mm_or_si128(good, _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
        return _mm_cmpeq_epi8(good, _mm_setzero_si128());
    }

    static inline int wide_16_none(wide_16 odd)
    {
        return _mm_movemask_epi8(odd) == 0;
    }
    #else
    enum { WIDE = 8 };
    #define WIDE_EACH(c) (0x0101010101010101ULL * (c))

    static inline uint64_t wide_load(const char *p)
    {
        uint64_t w = 0;
        for (int i = 0; i < 8; i++)
            w |= (uint64_t)(unsigned char)p[i] << (8 * i);  /* one load where bytes are in this order */
        return w;
    }

    /* The high bits of bytes that are zero: a borrow can make a byte after the first hit look like one, and only the
       first counts. The same holds for bytes below 32. */
    static inline uint64_t wide_zero(uint64_t w)
    {
        return (w - WIDE_EACH(1)) & ~w & WIDE_EACH(0x80);
    }

    static inline uint64_t wide_control(uint64_t w)
    {
        return ((w - WIDE_EACH(32)) & ~w & WIDE_EACH(0x80)) | wide_zero(w ^ WIDE_EACH(127));
    }

    static inline unsigned wide_first(uint64_t hits)
    {
        return hits ? (unsigned)__builtin_ctzll(hits) >> 3 : 8;
    }

    static inline unsigned wide_until_control(const char *p)
    {
        return wide_first(wide_control(wide_load(p)));
    }

    static inline unsigned wide_copy_plain(char *to, const char *p)
    {
        uint64_t w = wide_load(p);
        uint64_t hits = wide_control(w) | (w & WIDE_EACH(0x80)) | wide_zero(w ^ WIDE_EACH('"'));
        hits |= wide_zero(w ^ WIDE_EACH('\\\\'));
        memcpy(to, p, 8);
        return wide_first(hits);
    }

    static inline unsigned wide_until_odd_name(const char *p)
    {
        (void)p;
        return 0;               /* no gain in words of eight: the caller looks at each byte */
    }

    static inline uint64_t wide_newlines(const char *p)
    {
        uint64_t mask = 0;
        for (int i = 56; i >= 0; i -= 8) {
            uint64_t w = wide_load(p + i) ^ WIDE_EACH(10);
            /* Exact in each byte, as nothing is carried over; then the eight high bits are brought together. */
            w = ~(((w & WIDE_EACH(0x7f)) + WIDE_EACH(0x7f)) | w) & WIDE_EACH(0x80);
            mask = mask << 8 | ((w >> 7) * 0x0102040810204080ULL) >> 56;
        }
        return mask;
    }

    typedef struct { uint64_t a, b; } wide_16;      /* bytes, or hits as of wide_first */

    static inline wide_16 wide_16_of_words(uint64_t a, uint64_t b)
    {
        wide_16 v = {a, b};
        return v;
    }

    static inline wide_16 wide_16_of(const char *p)
    {
        wide_16 v;
        memcpy(&v, p, 16);
        return v;
    }

    static inline void wide_16_put(char *to, wide_16 v)
    {
        memcpy(to, &v, 16);
    }

    static inline uint64_t wide_8_odd(uint64_t w)
    {
        uint64_t hits = wide_control(w) | (w & WIDE_EACH(0x80)) | wide_zero(w ^ WIDE_EACH('"'));
        return hits | wide_zero(w ^ WIDE_EACH('\\\\'));
    }

    static inline wide_16 wide_16_odd(wide_16 v)
    {
        return wide_16_of_words(wide_8_odd(v.a), wide_8_odd(v.b));
    }

    static inline uint64_t wide_8_breaks(uint64_t w)
    {
        return wide_zero(w) | wide_zero(w ^ WIDE_EACH(10)) | wide_zero(w ^ WIDE_EACH(13));
    }

    static inline wide_16 wide_16_breaks(wide_16 v)
    {
        return wide_16_of_words(wide_8_breaks(v.a), wide_8_breaks(v.b));
    }

    static inline wide_16 wide_16_no_lower(wide_16 v)
    {
        (void)v;
        return wide_16_of_words(1, 1);      /* no gain in words of eight: the caller looks at each byte */
    }

    static inline wide_16 wide_16_or(wide_16 a, wide_16 b)
    {
        return wide_16_of_words(a.a | b.a, a.b | b.b);
    }

    static inline int wide_16_none(wide_16 odd)
    {
        return (odd.a | odd.b) == 0;
    }
    #endif

    static inline uint64_t wide_8_of(const char *p)
    {
        uint64_t w;
        memcpy(&w, p, 8);
        return w;
    }

    static inline uint32_t wide_4_of(const char *p)
    {
        uint32_t w;
        memcpy(&w, p, 4);
        return w;
    }

    /* What is shorter than a step is taken as two halves that overlap, so that no byte outside is touched. */
    static inline void wide_copy(char *to, const char *p, uint32_t n)
    {
        if (n > 32) {
            memcpy(to, p, n);
        } else if (n >= 16) {
            wide_16 first = wide_16_of(p), last = wide_16_of(p + n - 16);
            wide_16_put(to, first);
            wide_16_put(to + n - 16, last);
        } else if (n >= 8) {
            uint64_t first = wide_8_of(p), last = wide_8_of(p + n - 8);
            memcpy(to, &first, 8);
            memcpy(to + n - 8, &last, 8);
        } else if (n >= 4) {
            uint32_t first = wide_4_of(p), last = wide_4_of(p + n - 4);
            memcpy(to, &first, 4);
            memcpy(to + n - 4, &last, 4);
        } else if (n) {
            char first = p[0], middle = p[n >> 1], last = p[n - 1];
            to[0] = first;
            to[n >> 1] = middle;
            to[n - 1] = last;
        }
    }

    static inline int wide_copy_all_plain(char *to, const char *p, uint32_t n)
    {
        wide_16 odd;
        if (n >= 16) {
            wide_16 v = wide_16_of(p + n - 16);
            odd = wide_16_odd(v);
            wide_16_put(to + n - 16, v);
            for (uint32_t i = 0; i + 16 < n; i += 16) {
                v = wide_16_of(p + i);
                odd = wide_16_or(odd, wide_16_odd(v));
                wide_16_put(to + i, v);
            }
        } else if (n >= 8) {
            uint64_t first = wide_8_of(p), last = wide_8_of(p + n - 8);
            memcpy(to, &first, 8);
            memcpy(to + n - 8, &last, 8);
            odd = wide_16_odd(wide_16_of_words(first, last));
        } else if (n >= 4) {
            uint64_t first = wide_4_of(p), last = wide_4_of(p + n - 4);
            memcpy(to, p, 4);
            memcpy(to + n - 4, p + n - 4, 4);
            first |= last << 32;
            odd = wide_16_odd(wide_16_of_words(first, first));
        } else if (n) {
            uint64_t first = (unsigned char)p[0], middle = (unsigned char)p[n >> 1], last = (unsigned char)p[n - 1];
            to[0] = (char)first;
            to[n >> 1] = (char)middle;
            to[n - 1] = (char)last;
            first |= middle << 8 | last << 16 | last << 24;
            first |= first << 32;
            odd = wide_16_odd(wide_16_of_words(first, first));
        } else {
            return 1;
        }
        return wide_16_none(odd);
    }

    /* Whether `hits` finds nothing in n bytes. Inlined with a function that is a constant. */
    static inline __attribute__((always_inline)) int wide_none(const char *p, size_t n, wide_16 (*hits)(wide_16))
    {
        wide_16 found;
        if (n >= 16) {
            found = hits(wide_16_of(p + n - 16));
            for (size_t i = 0; i + 16 < n; i += 16)
                found = wide_16_or(found, hits(wide_16_of(p + i)));
        } else if (n >= 8) {
            found = hits(wide_16_of_words(wide_8_of(p), wide_8_of(p + n - 8)));
        } else if (n) {
            uint64_t all;
            if (n >= 4) {
                all = wide_4_of(p) | (uint64_t)wide_4_of(p + n - 4) << 32;
            } else {
                all = (unsigned char)p[0] | (unsigned char)p[n >> 1] << 8 | (unsigned char)p[n - 1] << 16;
                all |= all << 24 | all << 48;
            }
            found = hits(wide_16_of_words(all, all));
        } else {
            return 1;
        }
        return wide_16_none(found);
    }

    static inline int wide_no_break(const char *p, size_t n)
    {
        return wide_none(p, n, wide_16_breaks);
    }

    static inline int wide_lower_name(const char *p, size_t n)
    {
        return wide_none(p, n, wide_16_no_lower);
    }

    /* Letters differ from their other case by a bit; `lower` has letters, digits and hyphens, which all have that bit.
       Inlined with a length and a name that are constants, this is a comparison with one or two immediate words. */
    static inline __attribute__((always_inline)) int wide_same_name(const char *p, const char *lower, unsigned n)
    {
        const uint64_t bit = 0x2020202020202020ULL;
        unsigned i = 0;
        if (n >= 8) {
            for (; i + 8 < n; i += 8)
                if ((wide_8_of(p + i) | bit) != wide_8_of(lower + i))
                    return 0;
            return (wide_8_of(p + n - 8) | bit) == wide_8_of(lower + n - 8);
        }
        if (n >= 4)
            return (wide_4_of(p) | (uint32_t)bit) == wide_4_of(lower)
                && (wide_4_of(p + n - 4) | (uint32_t)bit) == wide_4_of(lower + n - 4);
        for (; i < n; i++)
            if ((p[i] | 32) != lower[i])
                return 0;
        return 1;
    }
    """
    const int WIDE
    # A byte that may not stand in a field value (RFC 9110 section 5.5), or a TAB, which may.
    unsigned until_control "wide_until_control"(const char *p) noexcept nogil
    # A byte that is not visible ASCII or a space, or is a quote or a backslash. All WIDE bytes are copied to `to`.
    unsigned copy_plain "wide_copy_plain"(char *to, const char *p) noexcept nogil
    # A byte that is no letter, no digit and no hyphen: where a field name or a segment of a path ends, or has to be
    # looked at closely. Without SSE2 always 0: "look closely" is right of every byte.
    unsigned until_odd_name "wide_until_odd_name"(const char *p) noexcept nogil
    # Where the line feeds are in the 64 bytes at `p`: a bit for each, the lowest for the first byte.
    uint64_t newlines "wide_newlines"(const char *p) noexcept nogil
    unsigned first_bit "__builtin_ctzll"(uint64_t bits) noexcept nogil
    # memcpy without a call, where n is mostly small.
    void copy_short "wide_copy"(char *to, const char *p, uint32_t n) noexcept nogil
    # Whether all n bytes are plain, in the sense of copy_plain. All are copied, whatever they are.
    bint copy_all_plain "wide_copy_all_plain"(char *to, const char *p, uint32_t n) noexcept nogil
    # Whether none of n bytes is CR, LF or NUL.
    bint no_break "wide_no_break"(const char *p, size_t n) noexcept nogil
    # Whether all of n bytes are lower-case letters, digits and hyphens. False may mean "look closely".
    bint lower_name "wide_lower_name"(const char *p, size_t n) noexcept nogil
    # Whether the name of n token characters at `p` is `lower`, whatever its case; n and `lower` are to be constants.
    bint same_name "wide_same_name"(const char *p, const char *lower, unsigned n) noexcept nogil
