"""A class of `qos:`: what its requests may have, and how many of them are at servers now."""

from gateway.config.units import size_text

ADMITS = {None: ADMITS_BY_LIMITS, "always": ADMITS_ALWAYS, "never": ADMITS_NEVER}


cdef class QosClass:
    """workers: how many workers' cells of the Board to look at. traffic: the class's row there. lane: in the
    queues of backends.

    The rest is as in a site file; concurrency 0: any number.
    """

    def __init__(self, str name, Board board, int worker, int workers, *, int traffic, int lane=0, int priority=7,
                 admit=None, RateLimit limit=None, int64_t concurrency=0, bint dry_run=False, int64_t bandwidth=0):
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
        said = [f"admit: {admit}"] if admit else []
        said += [f"priority {priority}"] if admit != "never" else []
        said += [limit.text] if limit is not None else []
        said += [f"concurrency {concurrency}"] if concurrency else []
        said += [f"bandwidth {size_text(bandwidth)}/s"] if bandwidth else []
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
        """Whether one more would be over its concurrency."""
        return self.concurrency != 0 and self.in_flight() >= self.concurrency

    cdef void enter(self) noexcept nogil:
        """A request of the class goes to a server."""
        self.board.traffic(self.traffic, self.worker).open += 1

    cdef void leave(self) noexcept nogil:
        """It has done with servers, or is to wait for another one."""
        self.board.traffic(self.traffic, self.worker).open -= 1
