from libc.stddef cimport size_t
from libc.stdint cimport int16_t, uint8_t, uint16_t, uint32_t, uint64_t

from gateway.dns.query cimport MAX_NAME

# A lower-case name is padded with zeros up to whole words, so that it is hashed and compared by words.
cdef enum:
    NAME_ROOM = MAX_NAME + 9

# Where the name of the owner is a pointer into the question's: it is `distance` bytes behind the end of that name.
cdef struct Patch:
    uint16_t offset
    int16_t distance

# What is said about a name and type, all that is behind the question. The patches follow, then the records.
cdef struct Said:
    uint32_t number         # answers of the same number are limited together
    uint16_t answers
    uint16_t authority
    uint16_t length         # bytes of the records
    uint8_t patches
    uint8_t code
    bint authoritative
    bint compact            # its code is NOERROR for clients that want signatures and no other code (RFC 9824)

cdef struct Entry           # one answer, or several that are given in turn; its layout is in kept.pyx

cdef inline const Patch *patches_of(const Said *said) noexcept nogil:
    return <const Patch *>(said + 1)


cdef inline const uint8_t *records_of(const Said *said) noexcept nogil:
    return <const uint8_t *>(said + 1) + said.patches * sizeof(Patch)


cdef class Answer:
    cdef bytes packed

    cdef const Said *said(self) noexcept


cdef class Kept:
    cdef uint8_t *arena
    cdef size_t room
    cdef size_t used
    cdef uint32_t *slots    # pairs: a tag, and the place of its entry in units of UNIT bytes; 0: free
    cdef uint32_t mask      # slots - 1
    cdef readonly uint32_t count
    cdef uint32_t generation
    cdef uint64_t seed

    cdef uint64_t hash(self, const uint8_t *name, size_t n, unsigned int kind, bint signed,
                       uint8_t *lower) noexcept nogil
    cdef void fetch_slot(self, uint64_t hash) noexcept nogil
    cdef void fetch_entry(self, uint64_t hash) noexcept nogil
    cdef const Said *find(self, uint64_t hash, const uint8_t *lower, size_t n) noexcept nogil
    cdef bint add(self, uint64_t hash, const uint8_t *lower, size_t n, list answers) except -1
    cdef Entry *entry(self, uint64_t hash, const uint8_t *lower, size_t n) noexcept nogil
    cdef uint8_t *take(self, size_t n) noexcept
    cdef int grow(self) except -1
