from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from qos.concurrency cimport Limit

cdef enum:
    MAX_SERVERS = 16384
    MAX_WORKERS = 64
    SOURCE_ROWS = 2         # of a count-min sketch: two sources are confused only if they meet in both rows
    SOURCE_CELLS = 16384    # in each row
    MAX_SITES = 32
    SESSION_CELLS = 4096    # of each server, one byte each
    MAX_TRAFFIC = 4096      # frontends, backends, classes, and classes at backends
    DURATIONS = 16          # cells of a histogram; the last has no upper bound
    MAX_OUTCOMES = 48       # ways in which a request can end
    MAX_ABUSES = 6          # of HTTP/2, for which a client's connection is ended
    MAX_HANDSHAKES = 11     # reasons for which a TLS handshake of a client fails
    MAX_CAUSES = 5          # of another try; see RETRY_CAUSES in proxy/retry.pyx
    LAYOUT = 1              # of counters: to be raised when one gets another meaning, as sizes and names do not show

cdef enum State:
    STATE_UNKNOWN = 0
    STATE_UP = 1
    STATE_DOWN = 2

cdef enum Admin:
    ADMIN_READY = 0
    ADMIN_DRAIN = 1
    ADMIN_MAINTENANCE = 2

cdef enum Ejection:
    EJECTED_NOT = 0
    EJECTED = 1             # its answers were bad: no requests
    EJECTED_PROBED = 2      # one request at a time, until one is answered well

# Written by control only. One cache line.
cdef struct ServerRow:
    uint8_t state           # what `checked` and `told` come to
    uint8_t admin           # what `asked` and `idle` come to
    uint8_t ejected
    uint8_t checked         # state that checks have found
    uint8_t told            # state that its agent says
    uint8_t asked           # admin state, as set by an operator or agent
    uint8_t idle            # its agent wants no new requests for now (a weight of 0 %)
    uint8_t pad
    double weight           # effective weight, relative; 0 until control has said something
    uint64_t generation     # how often the row was cleared for a new server
    double ramp             # share of its work that a server which came back may have already; 0 is 1: all of it
    double reported         # load that the server has reported lately, and 1; 0: none
    uint32_t limit          # max_connections that its agent says; 0: as configured
    uint8_t reserved[20]

# Written by one worker only. One cache line per (server, worker).
cdef struct CountRow:
    uint64_t requests       # finished
    uint64_t failures       # finished, and it was the server's fault
    double busy_seconds     # sum of times from picking the server to the end of its response
    uint64_t bytes_in       # from clients to the server
    uint64_t bytes_out      # from the server to clients
    int64_t waiting         # what goes first in that worker's queue (proxy/queue.pyx); 0: nothing (first server)
    int64_t announced       # when the worker wrote that, in ns
    uint32_t handshakes     # of TLS, complete
    uint32_t resumed        # of them, those that went on with a session from before

# How long a server takes to answer, as one worker has seen it; balance/estimate.pyx knows how to write and read it.
# Sums that forget exponentially; times in seconds, but moments in ns. Two cache lines per (server, worker).
cdef struct TimeRow:
    double answers          # how many
    double ahead            # of them: requests that were in flight at the server when each was picked
    double ahead_squared
    double time
    double time_ahead
    double recent           # times of the last few answers
    double expected         # what the line through the sums above had promised for those
    int64_t observed        # the moment up to which all this has been forgotten
    uint64_t started        # sum of the moments at which those were picked that are not answered yet
    int32_t unanswered
    int32_t streak          # failures since the last good answer
    double said             # load that the server has said last with an answer, 1.0 when full
    int64_t said_at         # when; 0: never
    double logs             # logarithms of how many times longer than promised an answer took
    double log_squares
    double surprise         # CUSUM of those: for that the server has turned slow, as a log-likelihood ratio
    uint8_t reserved[8]

# How requests got a connection to a server, as one worker has seen it.
cdef struct LinkRow:
    uint64_t opened         # connections that were begun
    uint64_t reused         # requests that took an idle one

# What concerns no server, frontend or backend. Written by one worker only. One cache line.
cdef struct WorkerRow:
    uint64_t lines_lost     # of the access log, that could not be written
    uint64_t spare[7]

# What has passed through a frontend or a backend, or was of a class, as one worker has seen it. Sixteen cache lines
# per (worker, row).
cdef struct TrafficRow:
    uint64_t answers[6]     # requests by the first digit of their status; 0: the client left without an answer
    uint64_t durations[DURATIONS]
    double seconds          # sum of those durations
    uint64_t bytes_in       # bodies from clients
    uint64_t bytes_out      # bodies to clients
    uint64_t connections    # of clients, accepted; frontends only, as are the next two
    uint64_t turned_away    # of them, those that were closed at once
    int64_t open            # of them, those that are there now; of a class or backend: its requests at servers
    uint64_t waited         # requests that waited for room at a server
    double waited_seconds   # sum of the times they waited
    uint64_t retried        # requests that needed more than one try
    uint64_t over           # requests over a limit that only counts (dry_run)
    uint64_t timed          # answers that the limit of a backend's concurrency goes by
    double timed_seconds    # sum of the times that servers took for them
    uint64_t outcomes[MAX_OUTCOMES]
    uint64_t abuses[MAX_ABUSES]  # connections ended, by Abuse (outcome.pyx); frontends only
    uint64_t pauses         # times that no client was accepted for want of descriptors; frontends only
    int64_t queued          # requests that wait now, of a class or for a backend
    uint64_t waits[DURATIONS]    # requests that waited for room at a server, by how long
    uint64_t causes[MAX_CAUSES]  # further tries by their cause; backends only
    uint64_t handshakes     # of clients in TLS, complete; frontends only
    uint64_t resumed        # of them, those that went on with a session from before
    uint64_t failed_handshakes[MAX_HANDSHAKES]  # by Handshake (outcome.pyx)
    uint64_t spare[4]

# Written by control only: a site, this one or another.
cdef struct SiteRow:
    uint64_t name           # its hash; 0: none
    double load             # 1.0 when full
    double spill            # part of this site's new clients that is sent there
    double until            # seconds of the monotonic clock: how long that is to be believed

cdef inline uint8_t session_minute(int64_t now) noexcept nogil:
    """The minute of a moment in ns, from 1 to 255 and over again; 0 is never."""
    return <uint8_t>(now // (<int64_t>60000 * 1000000) % 255 + 1)

# One request that is over, as it is counted.
cdef struct Passed:
    int status
    int outcome             # below MAX_OUTCOMES; outcome.pyx has their names
    int tries
    int64_t took            # ns
    int64_t waited          # ns
    int over                # 1: over a limit that only counts
    uint64_t bytes_in
    uint64_t bytes_out

cdef void record(TrafficRow *row, Passed *passed) noexcept nogil

cdef class Board:
    cdef readonly int fd
    cdef bint owned                     # the descriptor was made here, and goes with this object
    cdef readonly size_t size
    cdef char *base
    cdef ServerRow *servers
    # in_flight[slot * MAX_WORKERS + worker]: dense, because every pick reads a server's whole line
    cdef int32_t *in_flight_cells
    cdef CountRow *counts
    cdef TimeRow *times
    # source_cells[(row * SOURCE_CELLS + hash) * MAX_WORKERS + worker]: clients' connections
    cdef uint16_t *source_cells
    # session_cells[slot * SESSION_CELLS + hash]: the minute in which a session of that hash was there last. Several
    # workers write here, but never anything but the present minute.
    cdef uint8_t *session_cells
    cdef uint64_t *seed                 # of the hashes, so that nobody can aim at a cell
    cdef SiteRow *sites
    cdef double *short_until            # monotonic seconds: until then too little memory is free; control writes it
    cdef double *pulses                 # by worker: when it last said that it lives
    cdef Limit *limits                  # by a backend's row of `passed`; the process that claims a look writes it
    # passed[worker * MAX_TRAFFIC + row]: of a worker that never was, no page is touched
    cdef TrafficRow *passed
    # links[worker * MAX_SERVERS + slot]: the same
    cdef LinkRow *links
    cdef WorkerRow *workers
    # What the gateways before this one have counted, see `adopt`: sums of those that have ended, by the same rows
    cdef CountRow *past_counts
    cdef LinkRow *past_links
    cdef TrafficRow *past_traffic
    cdef WorkerRow *past_worker
    # and the board of the last one, which may still finish requests, with its rows and 1, 0 for none, by those here
    cdef Board elder
    cdef uint32_t *elder_slots
    cdef uint32_t *elder_rows

    cdef CountRow _counted(self, int slot) except *
    cdef LinkRow _linked(self, int slot) except *
    cdef CountRow _before_count(self, int slot) except *
    cdef LinkRow _before_link(self, int slot) except *
    cdef int _before_traffic(self, TrafficRow *total, int row) except -1
    cdef int _sum_traffic(self, TrafficRow *total, int row) except -1
    cdef WorkerRow _workers(self) except *
    cdef void _combine(self, int slot) noexcept
    cpdef object site_load(self, str name, double now)
    cpdef double site_spill(self, str name, double now) except -1
    cdef int _slot(self, int slot) except -1
    cdef int _worker(self, int worker) except -1
    cdef int _row(self, int row) except -1
    cdef uint32_t source_cell(self, int row, const char *name, uint32_t n) noexcept nogil
    cdef int from_source(self, const uint32_t *cells) noexcept nogil

    cdef inline ServerRow *server(self, int slot) noexcept nogil:
        return &self.servers[slot]

    cdef inline CountRow *count(self, int slot, int worker) noexcept nogil:
        return &self.counts[slot * MAX_WORKERS + worker]

    cdef inline TimeRow *timing(self, int slot, int worker) noexcept nogil:
        return &self.times[slot * MAX_WORKERS + worker]

    cdef inline TrafficRow *traffic(self, int row, int worker) noexcept nogil:
        return &self.passed[worker * MAX_TRAFFIC + row]

    cdef inline LinkRow *link(self, int slot, int worker) noexcept nogil:
        return &self.links[worker * MAX_SERVERS + slot]

    cdef inline void hear(self, int slot, int worker, double load, int64_t now) noexcept nogil:
        """The server has said its load with an answer to this worker."""
        self.timing(slot, worker).said = load
        self.timing(slot, worker).said_at = now

    cdef inline uint8_t *session_cell(self, int slot, uint64_t session) noexcept nogil:
        return &self.session_cells[<size_t>slot * SESSION_CELLS + session % SESSION_CELLS]

    cdef inline int total_in_flight(self, int slot, int workers) noexcept nogil:
        cdef int32_t *cells = self.in_flight_cells + slot * MAX_WORKERS
        cdef int i, total = 0
        for i in range(workers):
            total += cells[i]
        return total
