"""Sessions: a limited number of admitted clients, exact over all processes that share a table, and a queue for the
rest.

Every change is one compare-and-swap of a word: there is no lock, and a process that dies leaves no partial change.

**Sessions.** Each session has a slot: a word with its id, whether its ticket has come back, and the second of its last
request; the ticket names slot and id, so a lookup is one load, and no client address is stored. A session ends `idle`
seconds after its last request, or UNCONFIRMED seconds after its first one if its ticket has not come back: a client
that discards tickets cannot hold many places. `admitted` counts admissions; a census, four times a second, counts the
live sessions and sets `ceiling`, the value that `admitted` may reach before the next census. Between two censuses
sessions only end, so there are never more than `max`. A session takes its slot before it is counted, so that a
concurrent census counts it twice rather than not at all.

**The queue.** Its places are numbered; a ticket has a number, and the number's word in a ring has the second of its
client's last request. A silent client loses its number; one that is only late does not block those behind it.
The place of a client is the number of present clients with smaller numbers: the census stores that count for every
block of the ring, and the rest of a block is counted on demand. There is one rule for admission: the number of free
sessions must be greater than the place. So a free session is kept for the head of the queue, and a new client is
admitted at once if the queue is empty. Between two censuses the count can only be too high: that may delay a client by
a quarter of a second, and admits none before its turn. The ring records that a place was admitted: each number is valid
once. (If the response was lost, the client gets the same session again, until its ticket has come back.)

**Opening.** Before `opens` a client gets a number in order of arrival; nothing else is stored for it. At the opening,
as many places are added to the queue as numbers were given, and a secret permutation maps each number to its place.

**Sessions of other tables.** A ticket of a session in another table, of another gateway or from before a restart, is
accepted while it is fresh: its session gets a slot here, exceeding `max` if necessary, and new clients wait
correspondingly longer.
"""

from libc.math cimport exp
from libc.string cimport memcpy

from qos.headroom cimport HEADROOM_UNKNOWN, claim_look, look
from qos.tickets cimport K_EARLY, K_LIVE, K_NEW, K_NONE, K_QUEUED

from qos.headroom import FIRST, WHYS
from qos.tickets import KINDS

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t qs_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void qs_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline uint64_t qs_add(uint64_t *word, uint64_t n) { return __atomic_fetch_add(word, n, __ATOMIC_ACQ_REL); }
    static inline int qs_swap(uint64_t *word, uint64_t before, uint64_t after) {
        return __atomic_compare_exchange_n(word, &before, after, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    """
    uint64_t qs_load(const uint64_t *word)
    void qs_store(uint64_t *word, uint64_t value)
    uint64_t qs_add(uint64_t *word, uint64_t n)
    bint qs_swap(uint64_t *word, uint64_t before, uint64_t after)

cdef enum:
    HEADER = 4096           # bytes
    BLOCK = 256             # places of the ring per count of the census
    WAYS = 16               # candidate slots for a session of another table
    LEAST_SPAN = 1024       # minimum number of slots in use
    LONGEST_AWAY = 90       # seconds that a waiting client may stay away: browsers wake a hidden page once a minute
    ONE_UNCONFIRMED = 60    # seconds

# Words of the header. Words that requests change have a cache line each.
cdef enum:
    W_VERSION = 0
    W_OWN
    W_SECRET                # two words
    W_ADMITTED = 8          # sessions admitted so far
    W_IDS                   # ids assigned so far
    W_CEILING = 16          # upper limit of W_ADMITTED until the next census
    W_CURSOR = 24           # where the search for a free slot starts
    W_TAIL = 32             # the next number of the queue
    W_EARLY = 40            # the opening, and how many numbers were given before it
    W_CENSUS = 48           # start of the last census, in ns
    W_REACH                 # number of slots used so far
    W_HEAD                  # the smallest number that may wait
    W_COUNTED               # the number up to which the census has counted
    W_ABSENT                # numbers below W_COUNTED whose clients are not present
    W_GONE                  # numbers among those that were lost or used
    W_LIVE                  # sessions, by the census
    W_ENTERED = 64          # places of the queue that were admitted
    W_ENTERED_BEFORE        # the same at the last measurement of the rate
    W_MEASURED              # time of that measurement, in ns
    W_RATE_COUNT            # doubles: entries and seconds, forgotten exponentially
    W_RATE_SECONDS
    W_STATE                 # the opening, and its Phase
    W_CLAIMED               # when a process began the opening, in ns
    W_BASE                  # the first place of the clients that came before it
    W_DRAWN                 # the number of those clients
    W_ADOPTED               # sessions that came from another table
    W_SHARE = 96            # sessions that this gateway of a cluster may have
    W_SHARE_UNTIL           # until when that holds, in ns
    W_ADMITTED_THEN         # W_ADMITTED at the last census
    W_CLOSED_UNTIL          # until when no session is admitted, in ns
    W_HEADROOM = 128        # a Headroom

cdef enum Phase:
    P_NONE = 0
    P_BEFORE
    P_DRAWING
    P_OPEN

cdef enum:
    SEEN_BITS = 31
    OFFSET = 1000000        # seconds: a time of the monotonic clock is never 0
    SLOT_BITS = 20
    ENTERED_SHIFT = 32      # of an entry of the ring: 24 bits, 1 + the slot of the session that the place became
    LAP_SHIFT = 56          # and 8 bits, the lap of the ring

cdef uint64_t SEEN = ((<uint64_t>1) << SEEN_BITS) - 1
cdef uint64_t RETURNED = (<uint64_t>1) << SEEN_BITS     # the ticket has come back at least once
cdef int64_t CENSUS_NS = 250_000_000
cdef int64_t STUCK_NS = 5_000_000_000
cdef uint64_t FIRST_MEASURED = FIRST
cdef double RATE_SECONDS = 60.0         # over which the admission rate of the queue is smoothed
cdef int64_t SKEW = 60                  # largest difference between the clocks of two gateways, in seconds

SLOTS = 1 << SLOT_BITS
RING = 1 << 21
MOST_SESSIONS = SLOTS // 2
MOST_PLACES = RING // 2
UNCONFIRMED = ONE_UNCONFIRMED
"""Seconds until a session ends whose ticket has not come back."""
VERSION = 1
"""Version of the layout: tables of other versions cannot be used."""
ADMITTED = ("live", "renewed", "adopted", "new", "waiting", "early", "asset", "full")

assert ADMITTED[A_FULL] == "full"


def size(slots=SLOTS, ring=RING):
    """Bytes of memory for this many simultaneous sessions and numbers of the queue, each doubled."""
    return HEADER + ring // BLOCK * 4 + (slots + ring) * 8


cdef inline uint64_t _mixed(uint64_t x) noexcept nogil:
    """The finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    x += 0x9E3779B97F4A7C15ULL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL
    x = (x ^ x >> 27) * 0x94D049BB133111EBULL
    return x ^ x >> 31


cdef inline bint _lives(uint64_t word, const Terms *terms, uint32_t second) noexcept nogil:
    """Whether the session of a slot is live."""
    cdef uint32_t allowed = terms.idle
    if word == 0:
        return False
    if not word & RETURNED and allowed > ONE_UNCONFIRMED:
        allowed = ONE_UNCONFIRMED
    return second <= (word & SEEN) + allowed


cdef inline uint32_t _late(const Terms *terms) noexcept nogil:
    """Seconds after which a waiting client counts as absent."""
    return 2 * terms.refresh + 2


cdef inline uint32_t _lost(uint64_t entry, const Terms *terms) noexcept nogil:
    """Seconds after which a waiting client loses its number."""
    cdef uint32_t away = 4 * terms.refresh
    if not entry & RETURNED:
        return _late(terms)
    return away if away > LONGEST_AWAY else LONGEST_AWAY


cdef inline bint _entered(uint64_t entry) noexcept nogil:
    return (entry >> ENTERED_SHIFT & 0xFFFFFF) != 0


cdef class SessionTable:
    """memory: `size` bytes, initially zero, kept referenced; a table that it already contains stays in use.

    secret: 16 random bytes for a new table; None: the table must exist, and is only read. slots, ring: powers of two.
    Raises ValueError for memory of another size or layout.
    """

    def __init__(self, memory, secret=None, *, uint64_t slots=SLOTS, uint64_t ring=RING):
        cdef const uint8_t[::1] view = memory
        cdef bytes given
        if <uint64_t>view.shape[0] != <uint64_t>size(slots, ring) or slots & (slots - 1) or ring & (ring - 1):
            raise ValueError("the memory has not the size of a session table")
        self.memory = memory
        self.head = <uint64_t *>&view[0]
        self.prefix = <uint32_t *>(<char *>self.head + HEADER)
        self.slots = <uint64_t *>(<char *>self.prefix + ring // BLOCK * 4)
        self.ring = self.slots + slots
        self.slot_count = slots
        self.ring_count = ring
        if qs_load(self.head + W_VERSION) == 0 and secret is not None:
            given = secret
            if len(given) != 16:
                raise ValueError("the secret must have 16 bytes")
            memcpy(self.head + W_SECRET, <const char *>given, 16)
            self.head[W_OWN] = <uint32_t>_mixed(self.head[W_SECRET] ^ 1)
            qs_store(self.head + W_VERSION, VERSION)
        if qs_load(self.head + W_VERSION) != <uint64_t>VERSION:
            raise ValueError("the session table has another version")
        self.headroom = <Headroom *>(self.head + W_HEADROOM)
        self.own = <uint32_t>self.head[W_OWN]
        self.secret[0], self.secret[1] = self.head[W_SECRET], self.head[W_SECRET + 1]

    cdef int live(self, const Terms *terms, const Ticket *ticket, int64_t now, int64_t wall,
                  Answer *answer) noexcept nogil:
        """Admit a request that has a session; -1: it has none. ticket: its verified ticket, or one of kind K_NONE.

        now: monotonic, in ns, the same clock in all processes. wall: seconds since 1970.
        """
        cdef int what
        self._census(terms, now)
        answer.changed = False
        answer.place = 0
        if ticket.kind != K_NEW and ticket.kind != K_LIVE:
            return -1
        if self._session(terms, ticket, <uint32_t>(now // 1000000000 + OFFSET), wall, answer, &what):
            return what
        return -1

    cdef int admit(self, const Terms *terms, const Ticket *ticket, bint asset, int64_t now, int64_t wall,
                   Answer *answer) noexcept nogil:
        """Decide about any other request; called after `live`, with the same arguments.

        asset: the request is for a part of a page: it must neither get a place nor use one.
        """
        cdef uint32_t second = <uint32_t>(now // 1000000000 + OFFSET)
        cdef uint64_t tail, free
        cdef int64_t drawn, slot
        cdef int phase, what = A_FULL
        answer.ticket.kind = K_NONE
        if now < <int64_t>qs_load(self.head + W_CLOSED_UNTIL):
            answer.changed = answer.room = False
            return A_ASSET if asset else A_FULL
        phase = self._opening(terms, now, wall)
        if asset:
            tail = qs_load(self.head + W_TAIL)
            free = qs_load(self.head + W_CEILING) - qs_load(self.head + W_ADMITTED)
            answer.room = (phase != P_BEFORE and phase != P_DRAWING and self._servers_have_room(terms)
                           and <int64_t>free > <int64_t>(tail - qs_load(self.head + W_ABSENT)))
            return A_ASSET
        if ticket.kind == K_QUEUED and ticket.id == self.own:
            if self._queued(terms, ticket.number, second, wall, answer, &what):
                return what
        elif ticket.kind == K_EARLY and ticket.id == self.own:
            if phase == P_BEFORE or phase == P_DRAWING:
                if ticket.number >> 32 == qs_load(self.head + W_STATE) >> 2:
                    return A_EARLY
            else:
                drawn = self._draw(ticket.number)
                if drawn >= 0 and self._queued(terms, <uint64_t>drawn, second, wall, answer, &what):
                    if what == A_WAITS:
                        answer.changed = True
                    return what
        tail = qs_load(self.head + W_TAIL)
        answer.changed = True
        answer.ticket.id = self.own
        answer.ticket.stamp = <uint32_t>wall
        if phase == P_BEFORE or phase == P_DRAWING:
            return self._arrive(answer)
        slot = self._enter(terms, tail - qs_load(self.head + W_ABSENT), second, &answer.ticket.id)
        if slot >= 0:
            answer.ticket.kind = K_NEW
            answer.ticket.number = <uint64_t>self.own << 32 | <uint64_t>slot
            return A_NEW
        if (tail - qs_load(self.head + W_GONE) >= terms.places
                or tail - qs_load(self.head + W_HEAD) >= self.ring_count - BLOCK):
            answer.changed = False
            return A_FULL
        tail = qs_add(self.head + W_TAIL, 1)
        qs_store(self.ring + (tail & (self.ring_count - 1)), self._lap(tail) | second)
        answer.ticket.kind = K_QUEUED
        answer.ticket.number = tail
        answer.place = tail - qs_load(self.head + W_ABSENT)
        return A_WAITS

    cdef uint64_t _lap(self, uint64_t n) noexcept nogil:
        """The lap of the ring that a number is in, shifted into position; never 0."""
        return (n // self.ring_count % 255 + 1) << LAP_SHIFT

    # --------------------------------------------------------------------------------------------------------- sessions

    cdef bint _session(self, const Terms *terms, const Ticket *ticket, uint32_t second, int64_t wall,
                       Answer *answer, int *what) noexcept nogil:
        """Find the session of a ticket; False: it has ended."""
        cdef bint first = False
        cdef int64_t slot = <uint32_t>ticket.number
        cdef int64_t age = wall - <int64_t>ticket.stamp
        cdef int64_t fresh
        if ticket.number >> 32 == self.own:
            if not self._touch(terms, <uint64_t>slot, ticket.id, second, &first):
                return False
            what[0] = A_LIVE
            if not first and age <= terms.idle // 4:
                return True
            what[0] = A_RENEWED
        else:
            # Its last request may be later than the ticket by the time for which tickets are not renewed.
            fresh = terms.idle + terms.idle // 4
            if ticket.kind == K_NEW and fresh > ONE_UNCONFIRMED:
                fresh = ONE_UNCONFIRMED
            if age < -SKEW or age > fresh:
                return False
            slot = self._adopt(terms, ticket.id, second)
            if slot < 0:
                return False
            what[0] = A_ADOPTED
        answer.changed = True
        answer.ticket.kind = K_LIVE
        answer.ticket.number = <uint64_t>self.own << 32 | <uint64_t>slot
        answer.ticket.id = ticket.id
        answer.ticket.stamp = <uint32_t>wall
        return True

    cdef bint _touch(self, const Terms *terms, uint64_t slot, uint32_t id, uint32_t second,
                     bint *first) noexcept nogil:
        """Record a request of a session; False: not in that slot, or ended. first: its ticket has come back."""
        cdef uint64_t word, after = <uint64_t>id << 32 | RETURNED | second
        if slot >= self.slot_count:
            return False
        while True:
            word = qs_load(self.slots + slot)
            if word >> 32 != id or not _lives(word, terms, second):
                return False
            first[0] = not word & RETURNED
            if word == after or qs_swap(self.slots + slot, word, after):
                return True

    cdef uint64_t _span(self, const Terms *terms) noexcept nogil:
        """The number of slots in use."""
        cdef uint64_t span = LEAST_SPAN
        while span < 2 * terms.max:
            span *= 2
        return span if span < self.slot_count else self.slot_count

    cdef int64_t _adopt(self, const Terms *terms, uint32_t id, uint32_t second) noexcept nogil:
        """The slot of a session of another table; -1: none is free. Its requests find the same slot by its id."""
        cdef uint64_t span = self._span(terms), start = _mixed(id) & (span - 1), word, at
        cdef int i
        cdef uint64_t after = <uint64_t>id << 32 | RETURNED | second
        cdef int64_t slot
        cdef bint first
        for i in range(WAYS):
            at = (start + i) & (span - 1)
            if qs_load(self.slots + at) >> 32 == id and self._touch(terms, at, id, second, &first):
                return <int64_t>at
        for i in range(WAYS):
            at = (start + i) & (span - 1)
            word = qs_load(self.slots + at)
            if not _lives(word, terms, second) and qs_swap(self.slots + at, word, after):
                self._reach(at)
                slot = <int64_t>at
                break
        else:
            slot = self._free_slot(terms, after, second)
        if slot >= 0:
            qs_add(self.head + W_ADMITTED, 1)
            qs_add(self.head + W_ADOPTED, 1)
        return slot

    cdef void _reach(self, uint64_t slot) noexcept nogil:
        """Include the slot in the census."""
        cdef uint64_t reach
        while True:
            reach = qs_load(self.head + W_REACH)
            if reach > slot or qs_swap(self.head + W_REACH, reach, slot + 1):
                return

    cdef int64_t _free_slot(self, const Terms *terms, uint64_t word, uint32_t second) noexcept nogil:
        """Put a session into a free slot; -1: there is none."""
        cdef uint64_t span = self._span(terms), start = qs_load(self.head + W_CURSOR), i, at, found
        for i in range(span):
            at = (start + i) & (span - 1)
            found = qs_load(self.slots + at)
            if not _lives(found, terms, second) and qs_swap(self.slots + at, found, word):
                qs_store(self.head + W_CURSOR, at + 1)
                self._reach(at)
                return <int64_t>at
        return -1

    cdef int64_t _enter(self, const Terms *terms, uint64_t place, uint32_t second, uint32_t *id) noexcept nogil:
        """Begin a session, if there is still room after `place` clients before it. Its slot; -1: there is no room."""
        cdef uint64_t admitted = qs_load(self.head + W_ADMITTED)
        cdef uint64_t word
        cdef int64_t slot
        if admitted + place >= qs_load(self.head + W_CEILING) or not self._servers_have_room(terms):
            return -1
        id[0] = <uint32_t>_mixed(self.secret[0] ^ qs_add(self.head + W_IDS, 1)) | 1
        word = <uint64_t>id[0] << 32 | second
        slot = self._free_slot(terms, word, second)
        if slot < 0:
            return -1
        while True:
            if admitted + place >= qs_load(self.head + W_CEILING) or not self._servers_have_room(terms):
                qs_swap(self.slots + slot, word, 0)
                return -1
            if qs_swap(self.head + W_ADMITTED, admitted, admitted + 1):
                return slot
            admitted = qs_load(self.head + W_ADMITTED)

    # ------------------------------------------------------------------------------------------------------------ queue

    cdef bint _queued(self, const Terms *terms, uint64_t n, uint32_t second, int64_t wall, Answer *answer,
                      int *what) noexcept nogil:
        """Handle a request with number n of the queue; False: that number is used or lost."""
        cdef uint64_t *at = self.ring + (n & (self.ring_count - 1))
        cdef uint64_t entry, word, lap = self._lap(n), tail = qs_load(self.head + W_TAIL)
        cdef int64_t slot
        cdef uint32_t id
        if n >= tail or tail - n > self.ring_count:
            return False
        while True:
            entry = qs_load(at)
            if entry >> LAP_SHIFT << LAP_SHIFT != lap:
                return False
            if _entered(entry):
                slot = <int64_t>((entry >> ENTERED_SHIFT & 0xFFFFFF) - 1 & (self.slot_count - 1))
                word = qs_load(self.slots + slot)
                if word & RETURNED or not _lives(word, terms, second) or (word & SEEN) != (entry & SEEN):
                    return False
                id = <uint32_t>(word >> 32)
                break
            if second > (entry & SEEN) + _lost(entry, terms):
                return False
            if not qs_swap(at, entry, lap | RETURNED | second):
                continue
            entry = lap | RETURNED | second
            answer.place = self._place(n, terms, second)
            slot = self._enter(terms, answer.place, second, &id)
            if slot < 0:
                answer.ticket.kind = K_QUEUED
                answer.ticket.number = n
                answer.ticket.id = self.own
                answer.ticket.stamp = <uint32_t>wall
                what[0] = A_WAITS
                return True
            if qs_swap(at, entry, lap | <uint64_t>(slot + 1) << ENTERED_SHIFT | second):
                qs_add(self.head + W_ENTERED, 1)
                break
            # The same number at the same moment in another process: it is admitted once.
            qs_swap(self.slots + slot, <uint64_t>id << 32 | second, 0)
        answer.changed = True
        answer.ticket.kind = K_NEW
        answer.ticket.number = <uint64_t>self.own << 32 | <uint64_t>slot
        answer.ticket.id = id
        answer.ticket.stamp = <uint32_t>wall
        what[0] = A_NEW
        return True

    cdef bint _present(self, uint64_t n, const Terms *terms, uint32_t second) noexcept nogil:
        """Whether the client with number n waits and is not late."""
        cdef uint64_t entry = qs_load(self.ring + (n & (self.ring_count - 1)))
        if entry >> LAP_SHIFT << LAP_SHIFT != self._lap(n):
            return True                 # its number was given just now
        return not _entered(entry) and second <= (entry & SEEN) + _late(terms)

    cdef uint64_t _place(self, uint64_t n, const Terms *terms, uint32_t second) noexcept nogil:
        """The number of clients before the one with number n."""
        cdef uint64_t head = qs_load(self.head + W_HEAD), i = n & ~<uint64_t>(BLOCK - 1), place = 0
        if n >= qs_load(self.head + W_COUNTED):
            return n - qs_load(self.head + W_ABSENT)
        if i > head:
            place = self.prefix[(i & (self.ring_count - 1)) // BLOCK]
        else:
            i = head
        while i < n:
            place += self._present(i, terms, second)
            i += 1
        return place

    # ---------------------------------------------------------------------------------------------------------- opening

    cdef int _opening(self, const Terms *terms, int64_t now, int64_t wall) noexcept nogil:
        """The Phase at the time of this request."""
        cdef uint64_t state = qs_load(self.head + W_STATE)
        cdef int phase = state & 3
        if terms.opens > wall:
            if phase == P_BEFORE:
                return P_BEFORE
            if phase == P_NONE or phase == P_OPEN:
                qs_swap(self.head + W_STATE, state, ((state >> 2) + 1) << 2 | P_BEFORE)
                return P_BEFORE
            return phase
        if phase == P_BEFORE or (phase == P_DRAWING and now - <int64_t>qs_load(self.head + W_CLAIMED) > STUCK_NS):
            return self._open(terms, state, now)
        return phase

    cdef int _arrive(self, Answer *answer) noexcept nogil:
        """Give a client that comes before the opening its number."""
        cdef uint64_t opening = qs_load(self.head + W_STATE) >> 2, given
        while True:
            given = qs_load(self.head + W_EARLY)
            if given >> 32 != opening:
                answer.ticket.number = opening << 32
            elif <uint32_t>given >= self.ring_count // 2:
                answer.changed = False
                return A_FULL
            else:
                answer.ticket.number = given
            if qs_swap(self.head + W_EARLY, given, answer.ticket.number + 1):
                answer.ticket.kind = K_EARLY
                return A_EARLY

    cdef int _open(self, const Terms *terms, uint64_t state, int64_t now) noexcept nogil:
        """Add places for the clients that came before the opening. Returns the Phase afterwards."""
        cdef uint64_t early, base, n, claimed = qs_load(self.head + W_CLAIMED)
        cdef uint32_t second = <uint32_t>(now // 1000000000 + OFFSET)
        cdef uint64_t drawing = state >> 2 << 2 | P_DRAWING
        if state & 3 == P_DRAWING:
            if not qs_swap(self.head + W_CLAIMED, claimed, <uint64_t>now):
                return P_DRAWING
        else:
            qs_store(self.head + W_CLAIMED, <uint64_t>now)
            if not qs_swap(self.head + W_STATE, state, drawing):
                return P_DRAWING
        early = qs_load(self.head + W_EARLY)
        early = min(<uint32_t>early, self.ring_count // 2) if early >> 32 == state >> 2 else 0
        base = qs_add(self.head + W_TAIL, early)
        for n in range(base, base + early):
            qs_store(self.ring + (n & (self.ring_count - 1)), self._lap(n) | RETURNED | second)
        qs_store(self.head + W_BASE, base)
        qs_store(self.head + W_DRAWN, early)
        qs_swap(self.head + W_STATE, drawing, state >> 2 << 2 | P_OPEN)
        qs_store(self.head + W_CENSUS, 0)       # the places have not been counted
        return P_OPEN

    cdef int64_t _draw(self, uint64_t number) noexcept nogil:
        """The place of a client by its number from before the opening; -1: it belongs to another opening, or came too
        late.

        A Feistel network over the smallest even number of bits that suffices, iterated until the result is in range
        (Black, Rogaway 2002, "Ciphers with arbitrary finite domains").
        """
        cdef uint64_t count = qs_load(self.head + W_DRAWN), i = <uint32_t>number, left, right, key
        cdef int half = 1, turn
        if number >> 32 != qs_load(self.head + W_STATE) >> 2 or i >= count or count > self.ring_count:
            return -1
        while (<uint64_t>1 << 2 * half) < count:
            half += 1
        key = self.secret[1] ^ number >> 32
        while True:
            left = i >> half
            right = i & ((<uint64_t>1 << half) - 1)
            for turn in range(6):
                left, right = right, left ^ (_mixed(key + _mixed(right << 8 | <uint64_t>turn))
                                             & ((<uint64_t>1 << half) - 1))
            i = left << half | right
            if i < count:
                return <int64_t>(qs_load(self.head + W_BASE) + i)

    # ----------------------------------------------------------------------------------------------------------- census

    cdef bint _due(self, int word, int64_t now, int64_t every) noexcept nogil:
        """Whether this process should do a periodic job now: the word has its last run, `every` is in ns."""
        cdef uint64_t before = qs_load(self.head + word)
        return now - <int64_t>before >= every and qs_swap(self.head + word, before, <uint64_t>now)

    cdef void _census(self, const Terms *terms, int64_t now) noexcept nogil:
        """Recount everything, if it is due."""
        cdef uint32_t second
        if not self._due(W_CENSUS, now, CENSUS_NS):
            return
        second = <uint32_t>(now // 1000000000 + OFFSET)
        self._count_queue(terms, second)
        self._count_sessions(terms, second, now)
        self._measure(now)

    cdef void _count_sessions(self, const Terms *terms, uint32_t second, int64_t now) noexcept nogil:
        cdef uint64_t admitted = qs_load(self.head + W_ADMITTED), i, live = 0, most = terms.max
        cdef uint64_t reach = min(qs_load(self.head + W_REACH), self.slot_count)
        for i in range(reach):
            live += _lives(qs_load(self.slots + i), terms, second)
        qs_store(self.head + W_LIVE, live)
        qs_store(self.head + W_ADMITTED_THEN, admitted)
        if most > qs_load(self.head + W_SHARE) and now < <int64_t>qs_load(self.head + W_SHARE_UNTIL):
            most = qs_load(self.head + W_SHARE)
        qs_store(self.head + W_CEILING, admitted + (most - live if live < most else 0))

    cdef void _count_queue(self, const Terms *terms, uint32_t second) noexcept nogil:
        cdef uint64_t head = qs_load(self.head + W_HEAD), tail = qs_load(self.head + W_TAIL), n
        cdef uint64_t present = 0, waiting = 0, entry, new, mask = self.ring_count - 1
        cdef bint leading = True
        if tail == head and qs_load(self.head + W_COUNTED) == tail:
            return
        if tail - head > self.ring_count:
            head = tail - self.ring_count       # no process has written the census yet
        for n in range(head, tail):
            if n & (BLOCK - 1) == 0:
                self.prefix[(n & mask) // BLOCK] = <uint32_t>present
            entry = qs_load(self.ring + (n & mask))
            if entry >> LAP_SHIFT << LAP_SHIFT != self._lap(n):
                new = self._lap(n) | second     # the process that took the number is about to write it, or has died
                entry = new if qs_swap(self.ring + (n & mask), entry, new) else qs_load(self.ring + (n & mask))
            if _entered(entry) or second > (entry & SEEN) + _lost(entry, terms):
                if leading:
                    head = n + 1
                continue
            leading = False
            waiting += 1
            present += second <= (entry & SEEN) + _late(terms)
        while True:
            n = qs_load(self.head + W_HEAD)
            if n >= head or qs_swap(self.head + W_HEAD, n, head):
                break
        qs_store(self.head + W_GONE, tail - waiting)
        qs_store(self.head + W_ABSENT, tail - present)
        qs_store(self.head + W_COUNTED, tail)

    cdef void _measure(self, int64_t now) noexcept nogil:
        """Smooth the rate at which places of the queue are admitted; only while there is a queue."""
        cdef int64_t since = <int64_t>qs_load(self.head + W_MEASURED)
        cdef uint64_t entered = qs_load(self.head + W_ENTERED)
        cdef uint64_t count = entered - qs_load(self.head + W_ENTERED_BEFORE)
        cdef double *sums = <double *>(self.head + W_RATE_COUNT)
        cdef double seconds = (now - since) * 1e-9, kept
        if seconds < 1:
            return
        qs_store(self.head + W_MEASURED, <uint64_t>now)
        qs_store(self.head + W_ENTERED_BEFORE, entered)
        if since == 0 or (count == 0 and qs_load(self.head + W_TAIL) == qs_load(self.head + W_ABSENT)):
            return
        kept = exp(-seconds / RATE_SECONDS)
        sums[0] = sums[0] * kept + count
        sums[1] = sums[1] * kept + seconds

    cdef double advance_rate(self) noexcept nogil:
        """Places of the queue admitted per second, over about the last minute; 0: unknown."""
        cdef double *sums = <double *>(self.head + W_RATE_COUNT)
        return sums[0] / sums[1] if sums[0] > 0.5 and sums[1] > 0 else 0

    cdef uint64_t waiting(self) noexcept nogil:
        """The number of clients that wait, for the queue or the opening; as of the last census."""
        cdef uint64_t state = qs_load(self.head + W_STATE), early = qs_load(self.head + W_EARLY)
        if state & 3 == P_BEFORE and early >> 32 == state >> 2:
            return <uint32_t>early
        return qs_load(self.head + W_TAIL) - qs_load(self.head + W_GONE)

    # ----------------------------------------------------------------------------------------------------- measured max

    cdef bint to_measure(self, int64_t now) noexcept nogil:
        """Whether this process should call `measure` now."""
        return claim_look(self.headroom, now)

    cdef void measure(self, const Terms *terms, const Busy *busy, int64_t now) noexcept nogil:
        """Find out how many sessions there may be. busy: the backend with the fewest free places in proportion."""
        cdef Sessions sessions
        sessions.admitted = qs_load(self.head + W_ADMITTED)
        sessions.live = qs_load(self.head + W_LIVE) + sessions.admitted - qs_load(self.head + W_ADMITTED_THEN)
        sessions.horizon = max(1.0, terms.refresh if terms.places else 0.0)
        look(self.headroom, busy, &sessions, now)

    cdef uint64_t measured(self) noexcept nogil:
        """The number of sessions that there may be by the last measurement."""
        cdef uint64_t most = <uint64_t>self.headroom.sessions
        if self.headroom.why == HEADROOM_UNKNOWN:
            return self.slot_count // 2
        return most if most else FIRST_MEASURED

    cdef inline bint _servers_have_room(self, const Terms *terms) noexcept nogil:
        """Whether one more session may begin before the next measurement."""
        return not terms.measured or qs_load(self.head + W_ADMITTED) < self.headroom.until

    # -------------------------------------------------------------------------------------------- for display and tests

    @property
    def ident(self):
        """The id of this table in its tickets."""
        return self.own

    def figures(self, int64_t now, uint32_t idle, uint32_t refresh):
        """Current figures: live, waiting, present, early, admitted, adopted, entered, advance_rate, measured_max,
        measured_why."""
        cdef Terms terms
        cdef uint32_t second = <uint32_t>(now // 1000000000 + OFFSET)
        cdef uint64_t n, entry, early = qs_load(self.head + W_EARLY), state = qs_load(self.head + W_STATE)
        cdef uint64_t live = 0, waiting = 0, present = 0
        cdef uint64_t reach = min(qs_load(self.head + W_REACH), self.slot_count)
        cdef uint64_t tail = qs_load(self.head + W_TAIL)
        cdef uint64_t head = max(qs_load(self.head + W_HEAD), tail - min(tail, self.ring_count))
        terms.idle, terms.refresh = idle, refresh
        for n in range(reach):
            live += _lives(qs_load(self.slots + n), &terms, second)
        for n in range(head, tail):
            entry = qs_load(self.ring + (n & (self.ring_count - 1)))
            if _entered(entry) or second > (entry & SEEN) + _lost(entry, &terms):
                continue
            waiting += 1
            present += second <= (entry & SEEN) + _late(&terms)
        return {
            "live": live, "waiting": waiting, "present": present,
            "early": <uint32_t>early if state & 3 == P_BEFORE and early >> 32 == state >> 2 else 0,
            "admitted": qs_load(self.head + W_ADMITTED), "adopted": qs_load(self.head + W_ADOPTED),
            "entered": qs_load(self.head + W_ENTERED), "advance_rate": self.advance_rate(),
            "measured_max": self.measured() if self.headroom.sessions else None,
            "measured_why": WHYS[self.headroom.why],
        }

    def listed(self, int64_t now, uint32_t idle, uint32_t refresh, int most):
        """The first `most` clients of the queue: (place from 1 on, seconds since the last request, whether present)."""
        cdef Terms terms
        cdef uint32_t second = <uint32_t>(now // 1000000000 + OFFSET)
        cdef uint64_t n, entry, tail = qs_load(self.head + W_TAIL)
        cdef uint64_t head = max(qs_load(self.head + W_HEAD), tail - min(tail, self.ring_count))
        terms.idle, terms.refresh = idle, refresh
        found = []
        for n in range(head, tail):
            if len(found) >= most:
                break
            entry = qs_load(self.ring + (n & (self.ring_count - 1)))
            if not _entered(entry) and second <= (entry & SEEN) + _lost(entry, &terms):
                silent = max(0, <int64_t>second - <int64_t>(entry & SEEN))
                found.append((len(found) + 1, silent, second <= (entry & SEEN) + _late(&terms)))
        return found

    def set_share(self, uint64_t most, int64_t until):
        """This gateway of a cluster may have so many sessions, until then, in ns of the monotonic clock."""
        qs_store(self.head + W_SHARE, most)
        qs_store(self.head + W_SHARE_UNTIL, <uint64_t>until)

    def close_until(self, int64_t until):
        """Admit no session until then, in ns of the monotonic clock; those that there are go on. 0: admit again."""
        qs_store(self.head + W_CLOSED_UNTIL, <uint64_t>until)

    def counts(self, int64_t now, *, uint64_t most, uint32_t idle, uint32_t refresh):
        """Now: sessions, clients that wait and ask in time, sessions that were ever adopted."""
        cdef Terms terms
        cdef uint64_t admitted, then
        terms.max, terms.idle, terms.refresh = most or self.measured(), idle, refresh
        self._census(&terms, now)
        then = qs_load(self.head + W_ADMITTED_THEN)
        admitted = qs_load(self.head + W_ADMITTED)
        return (qs_load(self.head + W_LIVE) + admitted - then,
                qs_load(self.head + W_TAIL) - qs_load(self.head + W_ABSENT), qs_load(self.head + W_ADOPTED))

    def ask(self, ticket, double now, *, uint64_t most, uint32_t idle=600, uint64_t places=1000, uint32_t refresh=5,
            int64_t opens=0, bint asset=False, wall=None):
        """The same as `admit`, with times in seconds: (result, the new ticket or None, place)."""
        cdef Terms terms
        cdef Ticket given
        cdef Answer answer
        cdef int what
        terms.measured = most == 0
        terms.max = most or self.measured()
        terms.idle, terms.places, terms.refresh, terms.opens = idle, places, refresh, opens
        given.kind = K_NONE
        if ticket is not None:
            given.kind = KINDS.index(ticket[0])
            given.number, given.id, given.stamp = ticket[1], ticket[2], ticket[3]
        if wall is None:
            wall = now
        what = self.live(&terms, &given, <int64_t>(now * 1e9), <int64_t>wall, &answer)
        if what < 0:
            what = self.admit(&terms, &given, asset, <int64_t>(now * 1e9), <int64_t>wall, &answer)
        sent = None
        if answer.changed:
            sent = (KINDS[answer.ticket.kind], answer.ticket.number, answer.ticket.id, answer.ticket.stamp)
        if what == A_ASSET:
            return ("asset" if answer.room else "refused asset"), None, 0
        return ADMITTED[what], sent, answer.place

    def measure_now(self, double now, *, places, at_servers, waiting=0, seconds=0.0, target=0.0, uint64_t queue=0,
                    uint32_t refresh=5):
        """The same as `measure` if it is due, with the fields of Busy; returns the number of sessions."""
        cdef Terms terms
        cdef Busy busy
        terms.places, terms.refresh = queue, refresh
        if self.to_measure(<int64_t>(now * 1e9)):
            busy.places, busy.at_servers, busy.waiting = places, at_servers, waiting
            busy.seconds, busy.target = seconds, target
            self.measure(&terms, &busy, <int64_t>(now * 1e9))
        return self.measured()

    def census(self, double now, *, uint64_t most, uint32_t idle=600, uint32_t refresh=5):
        """Recount everything now."""
        cdef Terms terms
        terms.max, terms.idle, terms.refresh = most or self.measured(), idle, refresh
        qs_store(self.head + W_CENSUS, 0)
        self._census(&terms, <int64_t>(now * 1e9))
