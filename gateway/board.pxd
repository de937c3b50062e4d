from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_SERVERS = 16384
    MAX_WORKERS = 64
    SOURCE_ROWS = 2         # of a count-min sketch: two sources are confused only if they meet in both rows
    SOURCE_CELLS = 16384    # in each row

cdef enum State:
    STATE_UNKNOWN = 0
    STATE_UP = 1
    STATE_DOWN = 2

cdef enum Admin:
    ADMIN_READY = 0
    ADMIN_DRAIN = 1
    ADMIN_MAINTENANCE = 2

# Written by control only. One cache line.
cdef struct ServerRow:
    uint8_t state
    uint8_t admin
    uint8_t pad[6]
    double weight           # effective weight, relative; 0 until control has said something
    uint64_t generation     # how often the row was cleared for a new server
    double reported         # load that the server has reported lately, and 1; 0: none
    uint8_t reserved[32]

# Written by one worker only. One cache line per (server, worker).
cdef struct CountRow:
    uint64_t requests       # finished
    uint64_t failures       # finished, and it was the server's fault
    double busy_seconds     # sum of times from picking the server to the end of its response
    uint64_t bytes_in       # from clients to the server
    uint64_t bytes_out      # from the server to clients
    int64_t waiting_since   # when the request began that waits longest in that worker's queue; 0: none (first server)
    uint8_t reserved[16]

cdef class Board:
    cdef readonly int fd
    cdef readonly size_t size
    cdef char *base
    cdef ServerRow *servers
    # in_flight[slot * MAX_WORKERS + worker]: dense, because every pick reads a server's whole line
    cdef int32_t *in_flight_cells
    cdef CountRow *counts
    # source_cells[(row * SOURCE_CELLS + hash) * MAX_WORKERS + worker]: clients' connections
    cdef uint16_t *source_cells
    cdef uint64_t *seed                 # of the hashes, so that nobody can aim at a cell

    cdef int _slot(self, int slot) except -1
    cdef uint32_t source_cell(self, int row, const char *name, uint32_t n) noexcept nogil
    cdef int from_source(self, const uint32_t *cells) noexcept nogil

    cdef inline ServerRow *server(self, int slot) noexcept nogil:
        return &self.servers[slot]

    cdef inline CountRow *count(self, int slot, int worker) noexcept nogil:
        return &self.counts[slot * MAX_WORKERS + worker]

    cdef inline int total_in_flight(self, int slot, int workers) noexcept nogil:
        cdef int32_t *cells = self.in_flight_cells + slot * MAX_WORKERS
        cdef int i, total = 0
        for i in range(workers):
            total += cells[i]
        return total
