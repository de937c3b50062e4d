"""The interface of balancing policies: `pick` one of the members, or -1 if none can take a request.

A pick allocates no memory and takes no lock: it reads states and in-flight counts of all workers from the Board.
"""

from libc.stdlib cimport calloc, free

from gateway.balance.hashing cimport hash_bytes, mix
from gateway.balance.rendezvous cimport prepare, release
from gateway.board cimport EJECTED_NOT, session_minute

cdef class Members:
    """The servers of one backend on the Board.

    rows: (slot, weight, max_connections or 0, backup, name) for each server, in the order of the site file.
    workers: how many workers' cells are summed. seed: of the random numbers.
    """

    def __cinit__(self, Board board, rows, int workers, seed=1):
        cdef int i
        cdef list tiers = [[], []]
        self.board = board
        self.workers = min(workers, MAX_WORKERS)
        self.count = len(rows)
        self.member = <Member *>calloc(max(self.count, 1), sizeof(Member))
        self.candidate = <int *>calloc(max(self.count, 1), sizeof(int))
        if self.member == NULL or self.candidate == NULL:
            raise MemoryError
        self.random = (seed & 0xFFFFFFFFFFFFFFFF) or 1
        for i, (slot, weight, limit, backup, name) in enumerate(rows):
            self.member[i].slot = slot
            self.member[i].weight = weight
            self.member[i].max_connections = limit
            self.member[i].tier = 1 if backup else 0
            self.has_backup = self.has_backup or backup
            tiers[backup].append((i, _hash(name.encode()), weight))
        for i in range(2):
            prepare(&self.tiers[i], tiers[i])

    def __dealloc__(self):
        free(self.member)
        free(self.candidate)
        release(&self.tiers[0])
        release(&self.tiers[1])

    cdef int pick(self, Policy policy, PickArgs *args) except -2:
        """The server for a new request, as an index; -1: no server is up, ready, below its limit and untried."""
        cdef int i
        self.now = args.now
        i = policy.pick(self, 0, args)
        if i < 0 and self.has_backup:
            i = policy.pick(self, 1, args)
        if i >= 0:
            self.member[i].picked = args.now
        return i

    cdef int gather(self, int tier, Tried *tried) noexcept nogil:
        """Collect all members of the tier that can take the request, from the next in turn; return their number."""
        cdef int i
        self.candidates = 0
        for i in range(self.turn, self.count):
            self.consider(i, tier, tried)
        for i in range(self.turn):
            self.consider(i, tier, tried)
        return self.candidates

    cdef int sample(self, int tier, Tried *tried) noexcept nogil:
        """The same, but for many members a random sample: one of each of SAMPLE stretches of equal length; all, if few
        can.

        The best of SAMPLE servers is as good as the best of all (Mitzenmacher 2001: even two are nearly as good), and
        the cost of a request does not grow with the number of servers.
        """
        cdef int k, low, high
        cdef uint32_t draw = 0
        if self.count <= SAMPLE:
            return self.gather(tier, tried)
        self.candidates = 0
        draw = <uint32_t>self.chance() | 1
        for k in range(SAMPLE):
            low = <int>(<int64_t>k * self.count // SAMPLE)
            high = <int>(<int64_t>(k + 1) * self.count // SAMPLE)
            draw ^= draw << 13              # xorshift32 (Marsaglia 2003)
            draw ^= draw >> 17
            draw ^= draw << 5
            self.consider(low + <int>(<uint64_t>draw * <uint64_t>(high - low) >> 32), tier, tried)
        return self.candidates if self.candidates >= SAMPLE // 4 else self.gather(tier, tried)

    cdef bint accepts(self, int i) noexcept nogil:
        """Whether server i may serve an existing session: not down, ejected or in maintenance, below its limit."""
        cdef Member *m = &self.member[i]
        cdef ServerRow *row = self.board.server(m.slot)
        if row.state == STATE_DOWN or row.admin == ADMIN_MAINTENANCE or row.ejected == EJECTED:
            return False
        return not self.full(i)

    cdef bint keeps(self, int i) noexcept nogil:
        """Whether server i has sessions that no cookie records: while draining, it would never lose them."""
        return self.accepts(i) and self.board.server(self.member[i].slot).admin == ADMIN_READY

    cdef void see_session(self, int i, uint64_t session) noexcept nogil:
        """Record a session of server i by its hash."""
        self.board.session_cell(self.member[i].slot, session)[0] = session_minute(self.now)

    def see(self, int i, uint64_t session, *, int64_t now):
        """The same, for tests; the session is hashed here. `now` in ns."""
        self.now = now
        self.see_session(i, mix(session))

    cdef bint ramping_full(self, int i, double ramp) noexcept nogil:
        """Whether a server in slow start has its share: `ramp` times what the others have in flight by weight."""
        cdef int k, n = self.in_flight(i)
        cdef double total = 0, weight = 0
        cdef ServerRow *row
        if n == 0 or ramp >= 1:
            return False
        for k in range(self.count):
            row = self.board.server(self.member[k].slot)
            if (self.member[k].tier == self.member[i].tier and row.state != STATE_DOWN and row.admin == ADMIN_READY
                    and row.ejected == EJECTED_NOT and row.ramp == 0):
                total += self.in_flight(k)
                weight += self.member[k].weight
        return weight > 0 and n >= ramp * total / weight * self.member[i].weight

    cpdef object load(self):
        """The load of the usable servers, 1.0 when they are full; None: unknown.

        The mean, by weight, of each server's last report, or else of its requests in flight as a share of
        max_connections; servers with neither do not count. 1.0 if no server is usable.
        """
        cdef ServerRow *row
        cdef double total = 0, weights = 0, load
        cdef int i, usable = 0
        for i in range(self.count):
            row = self.board.server(self.member[i].slot)
            if not in_rotation(row):
                continue
            usable += 1
            if row.reported:
                load = row.reported - 1
            elif self.limit(i):
                load = self.in_flight(i) / <double>self.limit(i)
            else:
                continue
            total += load * self.member[i].weight
            weights += self.member[i].weight
        if not usable:
            return 1.0
        return total / weights if weights else None

    cpdef int up(self) except -1:
        """The number of servers that are not down, ejected, draining or in maintenance."""
        cdef int i, count = 0
        for i in range(self.count):
            count += in_rotation(self.board.server(self.member[i].slot))
        return count

    cpdef int sessions(self, int64_t now) except -1:
        """The approximate number of sessions that affinity has kept at the servers within ten minutes; `now` in ns."""
        cdef int i, count = 0
        for i in range(self.count):
            count += self.board.sessions(self.member[i].slot, now)
        return count

    cdef bint waiting_helps(self, Tried *tried) noexcept nogil:
        """Whether a server could take a request once it has fewer of them."""
        cdef int i, k
        cdef ServerRow *row
        for i in range(self.count):
            row = self.board.server(self.member[i].slot)
            if self.limit(i) and row.state != STATE_DOWN and row.admin == ADMIN_READY:
                for k in range(tried.count):
                    if tried.index[k] == i:
                        break
                else:
                    return True
        return False


def _hash(bytes name):
    """The hash of a server's name: the same in every gateway."""
    return hash_bytes(name, <uint32_t>len(name))


cdef class Policy:
    """A balancing policy. Pure: all its input is in Members and PickArgs.

    key_kind: whether it uses a key, and the source of the key.
    """

    cdef int pick(self, Members members, int tier, PickArgs *args) noexcept nogil:
        """The index of a usable member of the tier, or -1."""
        return -1

    def choose(self, Members members, tried=(), int64_t now=0, uint64_t key=0):
        """The index picked next, or -1; for tests, bench and explain. `now` in ns."""
        cdef PickArgs args
        cdef int i
        args.tried.count = min(len(tried), MAX_TRIED)
        for i in range(args.tried.count):
            args.tried.index[i] = tried[i]
        args.now = now
        args.key = key
        return members.pick(self, &args)


cdef int by_turns(Members members, bint weighted, bint effective) noexcept nogil:
    """Pick a candidate by smooth weighted round robin: each earns its weight, the one with the most credit is picked
    and pays the sum."""
    cdef int i, k, best = -1
    cdef double weight, total = 0
    for k in range(members.candidates):
        i = members.candidate[k]
        weight = 1.0
        if weighted:
            weight = members.effective_weight(i) if effective else members.member[i].weight
        members.member[i].credit = members.member[i].credit + weight    # no +=: see Members.consider
        total += weight
        if best < 0 or members.member[i].credit > members.member[best].credit:
            best = i
    if best >= 0:
        members.member[best].credit = members.member[best].credit - total
    return best


cdef int least_loaded(Members members, int tier, Tried *tried, bint weighted, bint effective) noexcept nogil:
    """The `least_busy` member of the tier, or of a sample of it."""
    members.sample(tier, tried)
    return least_busy(members, weighted, effective)


cdef int least_busy(Members members, bint weighted, bint effective) noexcept nogil:
    """The candidate with the smallest (in flight + 1) / weight: a request gets the largest share of that server.

    While no candidate has requests in flight, they take turns by weight. Otherwise a quiet site would send every
    request to the server with the largest weight and learn nothing about the others.
    """
    cdef int i, k, best = -1
    cdef bint idle = True
    cdef double score, weight, least = 0
    for k in range(members.candidates):
        i = members.candidate[k]
        if members.member[i].busy > 0:
            idle = False
        weight = 1.0
        if weighted:
            weight = members.effective_weight(i) if effective else members.member[i].weight
        score = (members.member[i].busy + 1) / weight
        if best < 0 or score < least:
            best = i
            least = score
    if best >= 0:
        if idle:
            return by_turns(members, weighted, effective)
        members.turn = best + 1 if best + 1 < members.count else 0
    return best
