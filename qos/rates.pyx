"""Rate limits: whether a key may have one more request now, counted exactly over all processes that share a table.

The generic cell rate algorithm (ITU-T I.371 Annex A, virtual scheduling) needs one number per key: the theoretical
arrival time (TAT). A request conforms if the TAT is no further ahead of now than the tolerance; a conforming request
advances it by one interval. A request that does not conform leaves it unchanged.

The TAT and a tag of the key are one 64-bit word, and every change is one compare-and-swap of that word: there is no
lock, a process that dies has either made its change or not, and the word is valid at every moment. A request that loses
the race for a word tries again; it loses only to a request that was counted.

The hash of a key selects one bucket of 8 words, a cache line. A new key takes the word with the smallest debt (TAT
minus now): an empty word, or one whose debt is paid, so that nothing is lost. Only if all 8 keys of a bucket are in
debt, the key with the smallest debt is forgotten. Hence a flood of new keys replaces the keys of the flood itself, not
one that is over its limit. Keys with the same bucket and tag, 40 bits, share a word; the hash must use a secret
(`secret`), so that clients cannot choose colliding keys.

Times in the table are 44 bits of ticks of 256 ns, so they repeat after 52 days. A debt of more than two days is an old
entry and counts as none; a key that returns after exactly 52 days may be limited once by mistake.
"""

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t rates_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
    static inline uint64_t rates_add(uint64_t *word, uint64_t n) {
        return __atomic_fetch_add(word, n, __ATOMIC_RELAXED);
    }
    static inline void rates_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline int rates_swap(uint64_t *word, uint64_t before, uint64_t after) {
        return __atomic_compare_exchange_n(word, &before, after, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
    """
    uint64_t rates_load(const uint64_t *word)
    bint rates_swap(uint64_t *word, uint64_t before, uint64_t after)
    uint64_t rates_add(uint64_t *word, uint64_t n)
    void rates_store(uint64_t *word, uint64_t value)

cdef enum:
    TAG_SHIFT = TIME_BITS

cdef uint64_t TIME = (<uint64_t>1 << TIME_BITS) - 1
cdef int64_t HORIZON = 2 * <int64_t>86400 * 1000000000 >> TICK_BITS    # ticks: the largest debt
cdef int64_t RECOVERED = -(<int64_t>1 << 62)                           # debt of an empty word

cdef enum:
    NOTES_BITS = 15
    NOTES = 1 << NOTES_BITS

cdef uint64_t NOT_YET = <uint64_t>-1

JOURNAL = 64 + NOTES * 16
"""Bytes of the notes for other gateways."""
BUCKET = WAYS
"""Keys per bucket."""
TICK = 1 << TICK_BITS
"""Nanoseconds per tick."""
FASTEST = 100_000.0
"""Requests per second: beyond this, the rounding to whole ticks would exceed 1.3 %."""
SLOWEST = 1.0 / 86400.0
"""The same, for the slowest rate."""
LONGEST = 86400.0
"""Seconds in which a burst must be paid for, max_delay included."""


cdef Rate rate_of(double per_second, int64_t burst) noexcept nogil:
    """per_second: from SLOWEST to FASTEST. burst: how many requests at once, at least 1."""
    cdef Rate rate
    rate.interval = <int64_t>(1e9 / per_second / (1 << TICK_BITS) + 0.5)
    rate.tolerance = (burst - 1) * rate.interval
    return rate


cdef inline int64_t _owed(uint64_t word, uint64_t now) noexcept nogil:
    """The debt of a word's key in ticks; zero or negative: none."""
    cdef int64_t ahead
    if word == 0:
        return RECOVERED
    ahead = <int64_t>((word - now) << (64 - TIME_BITS)) >> (64 - TIME_BITS)
    return ahead if ahead <= HORIZON else RECOVERED


cdef inline int _find(const uint64_t *bucket, uint64_t tag, uint64_t now, uint64_t *word, int64_t *owed) noexcept nogil:
    """Return the place in a bucket that is a key's, or that it takes from the key with the least debt.

    word: what is there; owed: the key's debt in ticks, zero if it is new.
    """
    cdef uint64_t found
    cdef int64_t debt, least = HORIZON + 1
    cdef int i, place = 0
    for i in range(WAYS):
        found = rates_load(bucket + i)
        debt = _owed(found, now)
        if found >> TAG_SHIFT == tag:
            word[0] = found
            owed[0] = debt if debt > 0 else 0
            return i
        if debt < least:
            least = debt
            place = i
            word[0] = found
    owed[0] = 0
    return place


cdef inline uint64_t _lap(uint64_t n) noexcept nogil:
    """Which round of the journal a note is of, in 16 bits, so that one that is not yet written is known."""
    return ((n >> NOTES_BITS) + 1) & 0xFFFF


cdef class RateTable:
    """memory: writable, initially zero, 64 bytes times a power of two; a reference is kept. secret: 16 random bytes.

    journal: JOURNAL bytes, zero to begin with; what is counted is noted there, for `news`. None: it is not.

    Raises ValueError for memory of another size.
    """

    def __init__(self, memory, bytes secret, journal=None):
        self.memory = memory
        self.read = NOT_YET
        if journal is not None:
            self.journal = journal
            if self.journal.shape[0] != JOURNAL:
                raise ValueError("the journal has another size")
            self.notes = <uint64_t *>&self.journal[0]
        self.buckets = self.memory.shape[0] // (WAYS * sizeof(uint64_t))
        if (self.buckets == 0 or self.buckets & (self.buckets - 1)
                or <uint64_t>self.memory.shape[0] != self.buckets * WAYS * sizeof(uint64_t)):
            raise ValueError("the memory must have 64 bytes times a power of two")
        if len(secret) != 16:
            raise ValueError("the secret must have 16 bytes")
        self.words = <uint64_t *>&self.memory[0]
        self.secret = secret

    cdef int64_t take(self, uint64_t key, const Rate *rate, int64_t now, int64_t max_delay) noexcept nogil:
        """Count a request of a key if it conforms.

        key: a hash with 64 random bits, made with the secret. now: monotonic, in ns, the same clock in all processes.
        max_delay: ns that the request may be delayed. Returns 0: it conforms; positive: it conforms in this many ns,
        and is counted; negative: it does not conform and is not counted; it might after this many ns.
        """
        cdef uint64_t tag = key >> TAG_SHIFT or 1
        cdef uint64_t *bucket = self.words + (key & (self.buckets - 1)) * WAYS
        cdef uint64_t ticks = <uint64_t>now >> TICK_BITS & TIME
        cdef uint64_t word = 0
        cdef int64_t owed = 0, early
        cdef int place, _
        for _ in range(TRIES):
            place = _find(bucket, tag, ticks, &word, &owed)
            early = owed - rate.tolerance
            if early > max_delay >> TICK_BITS:
                return -(early << TICK_BITS)
            if rates_swap(bucket + place, word, tag << TAG_SHIFT | ((ticks + owed + rate.interval) & TIME)):
                if self.notes != NULL:
                    self._note(key, rate.interval)
                return early << TICK_BITS if early > 0 else 0
        return 0        # the word changed TRIES times meanwhile: allow the request rather than block

    cdef void give_back(self, uint64_t key, const Rate *rate) noexcept nogil:
        """Undo the count of a request that is not served."""
        cdef uint64_t tag = key >> TAG_SHIFT or 1
        cdef uint64_t *bucket = self.words + (key & (self.buckets - 1)) * WAYS
        cdef uint64_t word
        cdef int i, _
        for i in range(WAYS):
            for _ in range(TRIES):
                word = rates_load(bucket + i)
                if word >> TAG_SHIFT != tag:
                    break
                if rates_swap(bucket + i, word, tag << TAG_SHIFT | ((word - rate.interval) & TIME)):
                    if self.notes != NULL:
                        self._note(key, -rate.interval)
                    return

    cdef void _note(self, uint64_t key, int64_t ticks) noexcept nogil:
        """Note what a key has used, for other gateways."""
        cdef uint64_t n = rates_add(self.notes, 1)
        cdef uint64_t *note = self.notes + 8 + (n & (NOTES - 1)) * 2
        rates_store(note + 1, 0)
        rates_store(note, key)
        rates_store(note + 1, <uint64_t>ticks << 16 | _lap(n))

    def news(self):
        """{key: ticks} that were used since this was asked last by this process; at most the last NOTES of them."""
        cdef uint64_t n, count, lap, key
        cdef uint64_t *note
        cdef dict found = {}
        if self.notes == NULL:
            return found
        count = rates_load(self.notes)
        if self.read > count:
            self.read = count
        n = self.read = max(self.read, count - min(count, <uint64_t>NOTES))
        while n < count:
            note = self.notes + 8 + (n & (NOTES - 1)) * 2
            lap = rates_load(note + 1)
            key = rates_load(note)
            if lap & 0xFFFF != _lap(n):
                if n != self.read:
                    break               # it is about to be written; if its process has died, it is left out next time
            elif rates_load(note + 1) == lap:
                found[key] = found.get(key, 0) + (<int64_t>lap >> 16)
            n += 1
        self.read = n
        return found

    def advance(self, uint64_t key, int64_t used, int64_t now):
        """Another gateway has let a key have so many ticks, negative: has given them back. now: as in `take`."""
        cdef uint64_t tag = key >> TAG_SHIFT or 1
        cdef uint64_t *bucket = self.words + (key & (self.buckets - 1)) * WAYS
        cdef uint64_t ticks = <uint64_t>now >> TICK_BITS & TIME
        cdef uint64_t word = 0
        cdef int64_t owed = 0
        cdef int place, _
        for _ in range(TRIES):
            place = _find(bucket, tag, ticks, &word, &owed)
            owed = min(max(0, owed + max(-HORIZON, min(HORIZON, used))), HORIZON)
            if rates_swap(bucket + place, word, tag << TAG_SHIFT | ((ticks + owed) & TIME)):
                return

    @property
    def keys(self):
        """The number of keys that fit into the table."""
        return self.buckets * WAYS

    # ----------------------------------------------------------------------------------------- for tests and the bench

    def ask(self, uint64_t key, double per_second, int64_t burst, int64_t now, int64_t max_delay=0):
        """The same as `take`."""
        cdef Rate rate = rate_of(per_second, burst)
        return self.take(key, &rate, now, max_delay)

    def refund(self, uint64_t key, double per_second, int64_t burst):
        """The same as `give_back`."""
        cdef Rate rate = rate_of(per_second, burst)
        self.give_back(key, &rate)

    def storm(self, uint64_t first, int64_t count, double per_second, int64_t burst, int64_t now, int64_t step=0):
        """Call `take` `count` times: with step 0 for the key `first`, otherwise each time for another, well hashed key.

        Returns how many conformed.
        """
        cdef Rate rate = rate_of(per_second, burst)
        cdef int64_t i, allowed = 0
        cdef uint64_t key = first
        with nogil:
            for i in range(count):
                if step:
                    key = _mixed(first + <uint64_t>(i * step))
                allowed += self.take(key, &rate, now, 0) == 0
        return allowed

    def entries(self):
        """(bucket, tag, time in ticks) of every word in use."""
        cdef uint64_t i
        return [(i // WAYS, self.words[i] >> TAG_SHIFT, self.words[i] & TIME)
                for i in range(self.buckets * WAYS) if self.words[i]]


cdef inline uint64_t _mixed(uint64_t x) noexcept nogil:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    x += 0x9E3779B97F4A7C15ULL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL
    x = (x ^ x >> 27) * 0x94D049BB133111EBULL
    return x ^ x >> 31
