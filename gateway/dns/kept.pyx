"""Answers, and those that are kept so that the next query for them costs a copy: one table of names of any number.

A name's answers are looked up by one hash of its letters in lower case, its type and whether signatures are wanted. The
table has eight bytes for each (linear probing, at most half full), and what is said lies behind the name that it is
compared with, in one cache line if it is short: a query costs two misses of the cache, and both can be asked for ahead
(fetch_slot, fetch_entry) while other queries of a batch are worked on.

Only names of the site file come in here, so clients cannot fill it. The hash has a secret seed.
"""

import os

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *where, size_t n, int protection, int flags, int fd, long offset)
    int munmap(void *where, size_t n)
    int madvise(void *where, size_t n, int advice)
    void *MAP_FAILED
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTNEED, MADV_HUGEPAGE

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t kept_lower(uint64_t x) {     /* eight letters at once */
        uint64_t low = x & 0x7f7f7f7f7f7f7f7fULL;
        uint64_t upper = ((low + 0x3f3f3f3f3f3f3f3fULL) ^ (low + 0x2525252525252525ULL)) & ~x & 0x8080808080808080ULL;
        return x | upper >> 2;
    }
    static inline uint64_t kept_mix(uint64_t a, uint64_t b) {
        unsigned __int128 product = (unsigned __int128)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    static inline void kept_fetch(const void *where) { __builtin_prefetch(where); }
    """
    uint64_t kept_lower(uint64_t x)
    uint64_t kept_mix(uint64_t a, uint64_t b)
    void kept_fetch(const void *where)

cdef enum:
    UNIT = 64               # bytes; an entry begins at a multiple of it
    FIRST = 1024            # slots to begin with
    MOST = 1 << 20          # entries
    MOST_TURNS = 65535

cdef uint64_t STIR = 0x9E3779B97F4A7C15

ROOM = 128 << 20
"""Bytes of all answers that are kept; they are reserved, and used as they are needed."""


# The name follows, padded to whole words; then the answer, or if there are several the places of all.
cdef struct Entry:
    uint64_t hash
    uint32_t generation
    uint16_t count
    uint16_t turn
    uint8_t name_words


cdef class Answer:
    """What is said about a name and type: all that is behind the question, and where it depends on the question.

    patches: (offset, distance) of pointers to `distance` bytes behind the end of the question's name, which may be
    negative: names that end as that one does are written only once (RFC 1035 section 4.1.4). number: answers of the
    same number are limited together. compact: its code is NOERROR for clients that want signatures, unless they say
    that they know better (RFC 9824). Raises ValueError for patches outside of the records, or too many of anything.
    """

    def __init__(self, int code, bytes records=b"", int answers=0, int authority=0, patches=(), *,
                 bint authoritative=True, bint compact=False, unsigned int number=0):
        cdef Said said
        cdef Patch patch
        cdef bytearray made = bytearray()
        patches = tuple(patches)
        if len(records) > 65535 or len(patches) > 255:
            raise ValueError("an answer has at most 65,535 bytes, and 255 patches")
        memset(&said, 0, sizeof(said))
        said.number = number
        said.answers = <uint16_t>answers
        said.authority = <uint16_t>authority
        said.length = <uint16_t>len(records)
        said.patches = <uint8_t>len(patches)
        said.code = <uint8_t>code
        said.authoritative = authoritative
        said.compact = compact
        made += (<char *>&said)[:sizeof(said)]
        for offset, distance in patches:
            if not 0 <= offset <= len(records) - 2:
                raise ValueError("a patch is outside of the records")
            patch.offset = offset
            patch.distance = distance
            made += (<char *>&patch)[:sizeof(patch)]
        self.packed = bytes(made + records)

    cdef const Said *said(self) noexcept:
        cdef const char *packed = self.packed
        return <const Said *>packed

    @property
    def code(self):
        """The response code."""
        return self.said().code

    @property
    def authoritative(self):
        """Whether AA is set."""
        return bool(self.said().authoritative)

    @property
    def compact(self):
        """Whether the code is NOERROR for clients that want signatures."""
        return bool(self.said().compact)

    @property
    def answers(self):
        """Records of the answer section."""
        return self.said().answers

    @property
    def authority(self):
        """Records of the authority section."""
        return self.said().authority

    @property
    def number(self):
        """What it is limited together with."""
        return self.said().number

    @property
    def records(self):
        """The bytes of all records."""
        return self.packed[sizeof(Said) + self.said().patches * sizeof(Patch):]

    @property
    def patches(self):
        """(offset, distance) of each."""
        cdef const Patch *at = patches_of(self.said())
        return tuple((at[i].offset, at[i].distance) for i in range(self.said().patches))


cdef class Kept:
    """room: bytes for all answers. Raises MemoryError."""

    def __cinit__(self, size_t room=ROOM):
        self.room = room
        self.arena = <uint8_t *>mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                     -1, 0)
        if <void *>self.arena == MAP_FAILED:
            self.arena = NULL
            raise MemoryError("no room for the answers that are kept")
        madvise(self.arena, room, MADV_HUGEPAGE)    # fewer misses of the TLB; a kernel without it does as well
        self.slots = <uint32_t *>calloc(FIRST, 2 * sizeof(uint32_t))
        if self.slots == NULL:
            raise MemoryError("no room for the table of answers")
        self.mask = FIRST - 1
        self.used = UNIT                            # place 0 says that a slot is free
        self.seed = int.from_bytes(os.urandom(8), "little") | 1

    def __dealloc__(self):
        if self.arena != NULL:
            munmap(self.arena, self.room)
        free(self.slots)

    def clear(self):
        """Forget all answers."""
        memset(self.slots, 0, <size_t>(self.mask + 1) * 2 * sizeof(uint32_t))
        madvise(self.arena, self.room, MADV_DONTNEED)
        self.used = UNIT
        self.count = 0

    def forget_turns(self):
        """Forget the answers that are given in turn: the order in which they are has changed."""
        self.generation += 1

    cdef uint64_t hash(self, const uint8_t *name, size_t n, unsigned int kind, bint signed,
                       uint8_t *lower) noexcept nogil:
        """The hash of a name of n bytes, which is written to `lower` (NAME_ROOM bytes) in lower case."""
        cdef uint64_t h = self.seed ^ kept_mix(<uint64_t>n << 32 | <uint64_t>kind << 1 | signed, STIR)
        cdef uint64_t word
        cdef size_t i
        # Lengths of labels are below 64, so they are no letters.
        memcpy(lower, name, n)
        memset(lower + n, 0, 8)
        for i in range(0, n, 8):
            memcpy(&word, lower + i, 8)
            word = kept_lower(word)
            memcpy(lower + i, &word, 8)
            h = kept_mix(h ^ word, STIR)
        return kept_mix(h, self.seed)

    cdef void fetch_slot(self, uint64_t hash) noexcept nogil:
        """Have the processor fetch what `find` reads first."""
        kept_fetch(self.slots + 2 * (<uint32_t>hash & self.mask))

    cdef void fetch_entry(self, uint64_t hash) noexcept nogil:
        """Have the processor fetch what `find` reads next, once the slot is there."""
        cdef uint32_t *slot = self.slots + 2 * (<uint32_t>hash & self.mask)
        cdef uint8_t *entry
        if slot[1] and slot[0] == <uint32_t>hash:
            entry = self.arena + <size_t>slot[1] * UNIT
            kept_fetch(entry)
            kept_fetch(entry + UNIT)

    cdef Entry *entry(self, uint64_t hash, const uint8_t *lower, size_t n) noexcept nogil:
        """The entry of a name; NULL: there is none."""
        cdef uint32_t tag = <uint32_t>hash, at = tag & self.mask
        cdef Entry *entry
        while self.slots[2 * at + 1]:
            if self.slots[2 * at] == tag:
                entry = <Entry *>(self.arena + <size_t>self.slots[2 * at + 1] * UNIT)
                # The length is part of the hash, and a name ends with the root, so its padding tells nothing.
                if entry.hash == hash and entry.name_words == (n + 7) // 8 and not memcmp(entry + 1, lower, n):
                    return entry
            at = (at + 1) & self.mask
        return NULL

    cdef const Said *find(self, uint64_t hash, const uint8_t *lower, size_t n) noexcept nogil:
        """What is said about a name; NULL: it is not kept."""
        cdef Entry *entry = self.entry(hash, lower, n)
        cdef uint8_t *body
        cdef uint32_t place
        if entry == NULL:
            return NULL
        body = <uint8_t *>(entry + 1) + entry.name_words * 8
        if entry.count == 1:
            return <const Said *>body
        if entry.generation != self.generation:
            return NULL
        place = (<uint32_t *>body)[entry.turn]
        entry.turn = entry.turn + 1 if entry.turn + 1 < entry.count else 0
        return <const Said *>(self.arena + <size_t>place * UNIT)

    cdef bint add(self, uint64_t hash, const uint8_t *lower, size_t n, list answers) except -1:
        """Keep one answer, or several that are given in turn; whether there is room for it."""
        cdef Entry *entry = self.entry(hash, lower, n)
        cdef Answer answer
        cdef uint8_t *body
        cdef uint8_t *there
        cdef uint32_t at
        cdef dict places = {}
        cdef size_t count = len(answers), words = (n + 7) // 8, size
        if not 0 < count <= MOST_TURNS or self.count >= MOST:
            return False
        answer = answers[0]
        size = len(answer.packed) if count == 1 else count * sizeof(uint32_t)
        if entry == NULL or entry.count != count or count == 1:
            there = self.take(sizeof(Entry) + words * 8 + size)
            if there == NULL:
                return False
            entry = <Entry *>there
            entry.count = <uint16_t>count
            entry.hash = hash
            entry.name_words = <uint8_t>words
            memcpy(entry + 1, lower, words * 8)
        else:
            there = NULL                            # the same number of turns: the places are written anew
        entry.turn = 0
        entry.generation = self.generation
        body = <uint8_t *>(entry + 1) + words * 8
        if count == 1:
            memcpy(body, <const char *>answer.packed, size)
        else:
            for i, answer in enumerate(answers):
                place = places.get(answer.packed)
                if place is None:
                    one = self.take(len(answer.packed))
                    if one == NULL:
                        entry.generation -= 1       # never found
                        return False
                    memcpy(one, <const char *>answer.packed, len(answer.packed))
                    place = places[answer.packed] = (one - self.arena) // UNIT
                (<uint32_t *>body)[i] = place
        if there == NULL:
            return True
        at = <uint32_t>hash & self.mask
        while self.slots[2 * at + 1]:
            if self.slots[2 * at] == <uint32_t>hash and (
                    (<Entry *>(self.arena + <size_t>self.slots[2 * at + 1] * UNIT)).hash == hash):
                self.count -= 1                     # it takes the place of an older one
                break
            at = (at + 1) & self.mask
        self.slots[2 * at] = <uint32_t>hash
        self.slots[2 * at + 1] = <uint32_t>((there - self.arena) // UNIT)
        self.count += 1
        if 2 * self.count > self.mask:
            self.grow()
        return True

    cdef uint8_t *take(self, size_t n) noexcept:
        """Room in the arena; NULL: it is full."""
        cdef size_t whole = (n + UNIT - 1) // UNIT * UNIT
        cdef uint8_t *there = self.arena + self.used
        if whole > self.room - self.used:
            return NULL
        self.used += whole
        return there

    cdef int grow(self) except -1:
        """Double the table. Raises MemoryError."""
        cdef uint32_t mask = 2 * self.mask + 1, at
        cdef size_t i
        cdef uint32_t *slots = <uint32_t *>calloc(<size_t>mask + 1, 2 * sizeof(uint32_t))
        if slots == NULL:
            raise MemoryError("no room for the table of answers")
        for i in range(<size_t>self.mask + 1):
            if self.slots[2 * i + 1]:
                at = self.slots[2 * i] & mask
                while slots[2 * at + 1]:
                    at = (at + 1) & mask
                slots[2 * at] = self.slots[2 * i]
                slots[2 * at + 1] = self.slots[2 * i + 1]
        free(self.slots)
        self.slots = slots
        self.mask = mask
        return 0

    # ---------------------------------------------------------------------------------------------------- for tests

    def put(self, bytes name, unsigned int kind, answers, *, bint signed=False):
        """Keep the answers about a name on the wire; whether there is room."""
        cdef uint8_t lower[NAME_ROOM]
        if len(name) > MAX_NAME:
            raise ValueError("the name is too long")
        cdef uint64_t hash = self.hash(name, len(name), kind, signed, lower)
        return self.add(hash, lower, len(name), list(answers))

    def get(self, bytes name, unsigned int kind, *, bint signed=False):
        """(code, number, answers, records) of the answer whose turn it is; None: none is kept."""
        cdef uint8_t lower[NAME_ROOM]
        if len(name) > MAX_NAME:
            raise ValueError("the name is too long")
        cdef uint64_t hash = self.hash(name, len(name), kind, signed, lower)
        cdef const Said *said = self.find(hash, lower, len(name))
        if said == NULL:
            return None
        return said.code, said.number, said.answers, (<const char *>records_of(said))[:said.length]
