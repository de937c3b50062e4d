from libc.stdint cimport int32_t, int64_t, uint64_t

# The reason for the present number of sessions; the names are in headroom.pyx.
cdef enum HeadroomWhy:
    HEADROOM_START = 0      # nothing has been measured yet
    HEADROOM_GROWING        # the servers have room for more than may begin in so short a time
    HEADROOM_ROOM           # as many as the servers have room for
    HEADROOM_FULL           # the servers have no room: no session begins
    HEADROOM_UNKNOWN        # no server with a limit is in service: there is no limit for sessions

# What the servers of a backend do now.
cdef struct Busy:
    double places           # requests that they may have at once; 0: unknown
    double at_servers       # requests that they have
    double waiting          # requests that wait for a place
    double seconds          # time that a request occupies a place, on average; 0: unknown
    double target           # seconds that a request may wait for a place

# Shared by all processes. Times in ns.
cdef struct Headroom:
    int64_t due             # time of the next look
    int64_t looked          # time of the last one; 0: there was none
    double free             # free places, smoothed
    double seconds          # time that a request occupies a place, at the last look
    double sessions         # how many there may be
    uint64_t until          # value that the number of admissions may reach before the next look
    int32_t why

# The sessions as they are now.
cdef struct Sessions:
    uint64_t live
    uint64_t admitted       # so far
    double horizon          # seconds within which every client that waits asks once

cdef double free_places(const Busy *busy) noexcept nogil
cdef bint claim_look(Headroom *state, int64_t now) noexcept nogil
cdef void look(Headroom *state, const Busy *busy, const Sessions *sessions, int64_t now) noexcept nogil
