"""How many sessions there may be, and how many may begin now, by the room that servers have. Pure.

A session is admitted if its first request finds room: a free place at the servers, or one that will be free within a
short target. That alone keeps servers busy and never overloads them for long, whatever the length of sessions and the
time between their requests: a request of a session follows the answer to the one before, so sessions cannot ask
faster than they are answered, and while their requests take all places, no other session begins. (Let N sessions ask
r times a second each, and the servers answer c requests a second: dN/dt = c - r N until sessions end. This approaches
c / r, and does not exceed it.)

Looks are PERIOD apart. Each counts the free places and allows as many sessions to begin as requests will find room
until the next look. With a queue that is not enough: its clients ask once in `horizon` seconds, and each must find its
session free when it asks. So the number of sessions is the present one and those that would find room within the
horizon, by the smoothed number of free places; the table decides which client is admitted first.

The number grows by GROWTH and FEW a second at most, because some sessions begin with a light request and ask for more
later: then their load shows only after they have begun.
"""

from libc.math cimport exp

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline int headroom_claim(int64_t *due, int64_t before, int64_t after) {
        return __atomic_compare_exchange_n(due, &before, after, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    """
    bint headroom_claim(int64_t *due, int64_t before, int64_t after)

cdef int64_t PERIOD = 50_000_000
cdef double SMOOTH = 1.0                # seconds
cdef double GROWTH = 0.2                # of the sessions, per second
cdef double FEW = 40.0                  # sessions, per second
cdef double LONGEST = 1.0               # seconds that count since the last look

FIRST = int(FEW)
"""Sessions that there may be before anything was measured."""
WHYS = ("start", "growing", "room", "full", "unknown")
"""Names of HeadroomWhy, for display."""


cdef double free_places(const Busy *busy) noexcept nogil:
    """Requests that would find a place within the target; negative: so many more wait already.

    At most as many again as there are places: the time of a request is of the past, and servers may have stopped.
    """
    cdef double soon = 0
    if busy.seconds > 0:
        soon = min(busy.places, busy.target * busy.at_servers / busy.seconds)
    return busy.places + soon - busy.at_servers - busy.waiting


cdef bint claim_look(Headroom *state, int64_t now) noexcept nogil:
    """Whether this process looks: true for one of the processes that ask once a look is due."""
    cdef int64_t due = state.due
    return now >= due and headroom_claim(&state.due, due, now + PERIOD)


cdef void look(Headroom *state, const Busy *busy, const Sessions *sessions, int64_t now) noexcept nogil:
    """Do a look that was claimed. busy: of the backend with the fewest free places in proportion."""
    cdef double free, period = PERIOD * 1e-9, span = period, room, grown, growth
    cdef double live = <double>sessions.live
    if busy.places <= 0:
        # No server is in service, as the answers of the backend say, or none has a limit.
        state.why = HEADROOM_UNKNOWN
        state.until = <uint64_t>-1
        state.looked = 0
        return
    free = free_places(busy)
    if state.looked:
        span = min(LONGEST, (now - state.looked) * 1e-9)
        state.free += (1 - exp(-span / SMOOTH)) * (free - state.free)
    else:
        state.free = free
        state.sessions = FEW
    state.looked = now
    state.seconds = busy.seconds if busy.seconds > 0 else period
    state.until = sessions.admitted
    if free >= 1:
        state.until += <uint64_t>(free * max(1.0, period / state.seconds))
    room = live
    if state.free > 0:
        room += state.free * sessions.horizon / state.seconds
    growth = FEW + GROWTH * live
    # With a queue, sessions begin only as its clients ask: those that may not begin before the horizon do not count.
    grown = max(max(state.sessions, live) + growth * span, live + growth * (sessions.horizon - 1))
    state.why = HEADROOM_FULL if free < 1 or room <= live else HEADROOM_ROOM if room <= grown else HEADROOM_GROWING
    state.sessions = max(1.0, min(room, grown))


# ------------------------------------------------------------------------------------------------------------ for tests

cdef class Measured:
    """A headroom on its own."""
    cdef Headroom state

    def look(self, double now, *, places, at_servers, waiting=0.0, seconds=0.0, target=0.0, live=0, admitted=0,
             horizon=1.0):
        """Do a look if it is due, with the fields of Busy and Sessions; times in seconds.

        Returns how many sessions there may be, and how many may begin before the next look.
        """
        cdef Busy busy
        cdef Sessions sessions
        if claim_look(&self.state, <int64_t>(now * 1e9)):
            busy.places, busy.at_servers, busy.waiting = places, at_servers, waiting
            busy.seconds, busy.target = seconds, target
            sessions.live, sessions.admitted, sessions.horizon = live, admitted, horizon
            look(&self.state, &busy, &sessions, <int64_t>(now * 1e9))
        return int(self.state.sessions), self.state.until - <uint64_t>admitted

    @property
    def why(self):
        """A name of WHYS."""
        return WHYS[self.state.why]
