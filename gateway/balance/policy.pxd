from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from gateway.balance.estimate cimport Estimate
from gateway.balance.rendezvous cimport Rendezvous
from gateway.board cimport (
    ADMIN_MAINTENANCE, ADMIN_READY, EJECTED, EJECTED_PROBED, MAX_WORKERS, STATE_DOWN, Board, ServerRow,
)

cdef enum:
    MAX_TRIED = 8
    SAMPLE = 32                     # with more servers, a policy that compares examines a random sample of this size
    PROBE_EVERY = 1_000_000_000     # ns until a worker probes an ejected server again: control needs time to judge

# Servers that have been tried already, by their index in Members.
cdef struct Tried:
    int count
    int index[MAX_TRIED]

# The source of the key of a policy that uses one. The caller, which has the request (later: the TCP connection), makes
# the key; a policy sees only its hash.
cdef enum KeyKind:
    KEY_NONE = 0
    KEY_ADDRESS             # of the client
    KEY_URI                 # path and query
    KEY_HEADER              # the value of the header `key_name`

# The input of a policy about the work that it picks a server for.
cdef struct PickArgs:
    Tried tried
    int64_t now                 # monotonic, in ns
    uint64_t key                # hash of the source in Policy.key_kind; 0: the work has no key

cdef struct Member:
    int slot                    # row of the Board
    int max_connections         # over all workers, as configured; 0: no limit
    double weight               # as configured
    double credit               # smooth weighted round robin: its credit
    uint8_t tier                # 0 primary, 1 backup
    int64_t picked              # last pick by this worker
    int64_t looked              # when `estimate` was read
    Estimate estimate
    double usual                # scratch of a pick: expected seconds if the server is unchanged
    double cost                 # and as it is now
    int busy                    # requests in flight over all workers, when `gather` read them

cdef inline bint in_rotation(ServerRow *row) noexcept nogil:
    """Whether a server is neither down, draining, in maintenance nor ejected."""
    return row.state != STATE_DOWN and row.admin == ADMIN_READY and row.ejected != EJECTED

cdef class Members:
    """The servers of one backend as a policy sees them."""
    cdef Board board
    cdef readonly int count
    cdef int workers
    cdef int64_t now            # of the pick, in ns
    cdef int turn               # rotates, so that ties are shared evenly
    cdef bint has_backup
    cdef Member *member
    cdef int *candidate         # indices of members that can take the request
    cdef int candidates         # their number
    cdef uint64_t random        # state of a xorshift generator
    cdef double variance        # scratch of a pick: of one answer
    cdef double probes          # requests that may be spent on probing servers
    cdef Rendezvous tiers[2]    # primaries and backups, for policies with a key

    cdef int pick(self, Policy policy, PickArgs *args) except -2
    cdef int gather(self, int tier, Tried *tried) noexcept nogil
    cdef int sample(self, int tier, Tried *tried) noexcept nogil
    cdef bint accepts(self, int i) noexcept nogil
    cdef bint keeps(self, int i) noexcept nogil
    cpdef object load(self)
    cpdef int up(self) except -1
    cpdef int sessions(self, int64_t now) except -1
    cdef bint waiting_helps(self, Tried *tried) noexcept nogil
    cdef void see_session(self, int i, uint64_t session) noexcept nogil
    cdef bint ramping_full(self, int i, double ramp) noexcept nogil

    cdef inline uint64_t chance(self) noexcept nogil:
        """The next number of xorshift64* (Marsaglia 2003, Vigna 2016)."""
        cdef uint64_t x = self.random
        x ^= x >> 12
        x ^= x << 25
        x ^= x >> 27
        self.random = x
        return (x * 0x2545F4914F6CDD1DULL) >> 16

    cdef inline int in_flight(self, int i) noexcept nogil:
        return self.board.total_in_flight(self.member[i].slot, self.workers)

    cdef inline double effective_weight(self, int i) noexcept nogil:
        """The weight that control has computed from the server's reports; until then the configured weight."""
        cdef double weight = self.board.server(self.member[i].slot).weight
        return weight if weight > 0 else self.member[i].weight

    cdef inline int limit(self, int i) noexcept nogil:
        """Requests that may be in flight at server i: its agent's limit, or else the configured one; 0: no limit."""
        cdef int said = <int>self.board.server(self.member[i].slot).limit
        return said if said > 0 else self.member[i].max_connections

    cdef inline bint full(self, int i) noexcept nogil:
        cdef int limit = self.limit(i)
        return limit > 0 and self.in_flight(i) >= limit

    cdef inline void consider(self, int i, int tier, Tried *tried) noexcept nogil:
        """Make member i a candidate, if it can take the request."""
        if self.usable(i, tier, tried):
            self.member[i].busy = self.in_flight(i)
            self.candidate[self.candidates] = i
            self.candidates = self.candidates + 1    # += is refused without the GIL while None checks are on

    cdef inline bint usable(self, int i, int tier, Tried *tried) noexcept nogil:
        """Whether a new request may go to member i."""
        cdef Member *m = &self.member[i]
        cdef ServerRow *row = self.board.server(m.slot)
        cdef int k
        if m.tier != tier or not in_rotation(row):
            return False
        for k in range(tried.count):
            if tried.index[k] == i:
                return False
        if row.ejected == EJECTED_PROBED and (self.in_flight(i) > 0 or self.now - m.picked < PROBE_EVERY < m.picked):
            return False
        if row.ramp > 0 and self.ramping_full(i, row.ramp):
            return False
        return not self.full(i)

cdef class Policy:
    cdef readonly int key_kind  # KeyKind
    cdef readonly bytes key_name

    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil

cdef int by_turns(Members members, bint weighted, bint effective) noexcept nogil
cdef int least_busy(Members members, bint weighted, bint effective) noexcept nogil
cdef int least_loaded(Members members, int tier, Tried *tried, bint weighted, bint effective) noexcept nogil
