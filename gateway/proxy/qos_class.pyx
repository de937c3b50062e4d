"""A class of `qos:`: the limits of its requests, and the number of them at servers now."""

from hashlib import blake2b

from qos.rates cimport TICK_BITS, Rate

from gateway.config.units import size_text

cdef int64_t FAR = <int64_t>86400 * 1000000000   # ns: longer than any wait for a turn

ADMITS = {None: ADMITS_BY_LIMITS, "always": ADMITS_ALWAYS, "never": ADMITS_NEVER}


cdef class QosClass:
    """workers: how many workers' cells of the Board to sum. traffic: the class's row there. lane: in the
    queues of backends.

    The rest is as in a site file; concurrency 0: any number. rates: the table that all workers count in, which
    total_bandwidth needs.
    """

    def __init__(self, str name, Board board, int worker, int workers, *, int traffic, int lane=0, int priority=7,
                 admit=None, RateLimit limit=None, int64_t concurrency=0, bint dry_run=False, int64_t bandwidth=0,
                 int64_t total_bandwidth=0, RateTable rates=None):
        self.name = name
        self.log_name = name.encode()
        self.board = board
        self.worker = worker
        self.workers = workers
        self.traffic = traffic
        self.admits = ADMITS[admit]
        self.lane = lane
        self.priority = priority
        self.limit = limit
        self.concurrency = concurrency
        self.dry_run = dry_run
        self.bandwidth = bandwidth
        self.total_bandwidth = total_bandwidth if rates is not None else 0
        self.rates = rates
        if rates is not None:
            digest = blake2b(f"bytes {name}".encode(), key=rates.secret, digest_size=8).digest()
            self.bytes_key = int.from_bytes(digest, "little")
        said = [f"admit: {admit}"] if admit else []
        said += [f"priority {priority}"] if admit != "never" else []
        said += [limit.text] if limit is not None else []
        said += [f"concurrency {concurrency}"] if concurrency else []
        said += [f"bandwidth {size_text(bandwidth)}/s"] if bandwidth else []
        said += [f"total bandwidth {size_text(total_bandwidth)}/s"] if total_bandwidth else []
        self.text = "; ".join(said)

    def __repr__(self):
        return f"<QosClass {self.name}>"

    cdef int64_t in_flight(self) noexcept nogil:
        """Requests of the class that are at servers, over all workers."""
        cdef int64_t total = 0
        cdef int i
        for i in range(self.workers):
            total += self.board.traffic(self.traffic, i).open
        return total

    cdef bint full(self) noexcept nogil:
        """Whether the class has reached its concurrency."""
        return self.concurrency != 0 and self.in_flight() >= self.concurrency

    cdef void enter(self) noexcept nogil:
        """A request of the class goes to a server."""
        self.board.traffic(self.traffic, self.worker).open += 1

    cdef void leave(self) noexcept nogil:
        """A request of the class is done with servers, or waits for another one."""
        self.board.traffic(self.traffic, self.worker).open -= 1

    cdef int64_t reserve(self, int64_t count, int64_t now) noexcept nogil:
        """Bytes of a response are to be sent: the ns until the total bandwidth allows it.

        Turns are given one after the other, over all workers; what is not used of one is to be given back.
        """
        cdef Rate bytes_of = self._of(count)
        cdef int64_t wait = self.rates.take(self.bytes_key, &bytes_of, now, FAR)
        return wait if wait >= 0 else -wait

    cdef void give_back(self, int64_t count) noexcept nogil:
        """Return the turn of bytes that are not sent after all."""
        cdef Rate bytes_of = self._of(count)
        self.rates.give_back(self.bytes_key, &bytes_of)

    cdef Rate _of(self, int64_t count) noexcept nogil:
        """Bytes as one request of a rate: the time that they take, without tolerance."""
        cdef Rate found
        found.interval = <int64_t>(count * 1e9 / self.total_bandwidth) >> TICK_BITS
        found.tolerance = 0
        return found
