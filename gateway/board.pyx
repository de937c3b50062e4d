"""The board: the table in shared memory with the state of every server, read by all processes of the tree.

A fixed layout in shared memory (a memfd), without locks: each row has one writer. `control` writes the server rows
(state, admin state, effective weight); worker `i` writes only its own cells (in flight), its own counters and its own
measurements of response times. A read is a load from memory, so a pick sees the in-flight counts of all workers.
Pages that are never touched cost nothing, therefore the capacity is fixed and generous.
"""

import fcntl
import hashlib
import os

from libc.math cimport log
from libc.string cimport memset
from posix.unistd cimport close as c_close
from posix.mman cimport MAP_FAILED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap

from gateway.outcome import ABUSES, HANDSHAKES, OUTCOMES, RETRY_CAUSES
from gateway.reports import Concurrency, PoolReport, Traffic
from qos.concurrency import WHYS

cdef enum:
    F_SEAL_FUTURE_WRITE = 0x10

SERVERS = MAX_SERVERS
TRAFFIC = MAX_TRAFFIC
WORKERS = MAX_WORKERS
UNKNOWN = STATE_UNKNOWN
UP = STATE_UP
DOWN = STATE_DOWN
READY = ADMIN_READY
DRAIN = ADMIN_DRAIN
MAINTENANCE = ADMIN_MAINTENANCE
IN_ROTATION = EJECTED_NOT
OUT = EJECTED
PROBED = EJECTED_PROBED

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of the cells of a histogram of durations but the last, in seconds."""

cdef int64_t[DURATIONS - 1] _bounds     # the same in ns
_bounds = [round(seconds * 1e9) for seconds in BOUNDS]

assert sizeof(ServerRow) == 64
assert sizeof(CountRow) == 64
assert sizeof(TimeRow) == 128
assert sizeof(TrafficRow) == 1024
assert sizeof(LinkRow) == 16
assert sizeof(WorkerRow) == 64
assert sizeof(Limit) == 128


cdef void record(TrafficRow *row, Passed *passed) noexcept nogil:
    """Count a finished request. A status that was logged but not sent (499, 0) is not a response."""
    cdef int cell = 0
    while cell < DURATIONS - 1 and passed.took > _bounds[cell]:
        cell += 1
    row.durations[cell] += 1
    row.seconds += passed.took * 1e-9
    row.answers[passed.status // 100 if passed.status < 600 and passed.status != 499 else 0] += 1
    row.outcomes[passed.outcome] += 1
    row.bytes_in += passed.bytes_in
    row.bytes_out += passed.bytes_out
    row.over += passed.over
    if passed.tries > 1:
        row.retried += 1
    if passed.waited:
        row.waited += 1
        row.waited_seconds += passed.waited * 1e-9
        cell = 0
        while cell < DURATIONS - 1 and passed.waited > _bounds[cell]:
            cell += 1
        row.waits[cell] += 1


cdef void _add_count(CountRow *total, CountRow *part) noexcept nogil:
    total.requests += part.requests
    total.failures += part.failures
    total.busy_seconds += part.busy_seconds
    total.bytes_in += part.bytes_in
    total.bytes_out += part.bytes_out
    total.handshakes += part.handshakes
    total.resumed += part.resumed


cdef void _add_link(LinkRow *total, LinkRow *part) noexcept nogil:
    total.opened += part.opened
    total.reused += part.reused


cdef void _add_worker(WorkerRow *total, WorkerRow *part) noexcept nogil:
    total.lines_lost += part.lines_lost


cdef void _add_traffic(TrafficRow *total, TrafficRow *part) noexcept nogil:
    cdef int i
    for i in range(6):
        total.answers[i] += part.answers[i]
    for i in range(DURATIONS):
        total.durations[i] += part.durations[i]
        total.waits[i] += part.waits[i]
    total.seconds += part.seconds
    total.bytes_in += part.bytes_in
    total.bytes_out += part.bytes_out
    total.connections += part.connections
    total.turned_away += part.turned_away
    total.waited += part.waited
    total.waited_seconds += part.waited_seconds
    total.retried += part.retried
    total.over += part.over
    for i in range(MAX_OUTCOMES):
        total.outcomes[i] += part.outcomes[i]
    for i in range(MAX_ABUSES):
        total.abuses[i] += part.abuses[i]
    for i in range(MAX_CAUSES):
        total.causes[i] += part.causes[i]
    for i in range(MAX_HANDSHAKES):
        total.failed_handshakes[i] += part.failed_handshakes[i]
    total.handshakes += part.handshakes
    total.resumed += part.resumed
    total.open += part.open
    total.pauses += part.pauses
    total.queued += part.queued


def layout():
    """A text that two versions have in common only if each can read the other's counters."""
    sizes = (MAX_SERVERS, MAX_TRAFFIC, MAX_WORKERS, sizeof(ServerRow), sizeof(CountRow), sizeof(TimeRow),
             sizeof(TrafficRow), sizeof(LinkRow))
    outcomes, abuses = [name for name, *_ in OUTCOMES], [name for name, _ in ABUSES]
    handshakes = [name for name, _ in HANDSHAKES]
    names = repr((outcomes, abuses, RETRY_CAUSES, handshakes, LAYOUT, sizes))
    return hashlib.blake2b(names.encode(), digest_size=8).hexdigest()


def _only_to_read(int fd):
    """Close `fd`; return a descriptor of the same memory that can change neither its size nor its content.

    Writers have inherited their mapping by fork. A process that could truncate the memory would crash all the others
    (SIGBUS).
    """
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
        except OSError:     # before Linux 5.1
            pass
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


cdef class Board:
    """Make a new, empty table (fd = -1), or open the one behind `fd` for reading. Raises OSError.

    Writes to an opened table are private to this process; unwritten pages show the current content. Only forked
    children can write to the table through the `fd` of its creator.
    """

    def __cinit__(self, int fd=-1):
        cdef size_t rows = MAX_SERVERS * sizeof(ServerRow)
        cdef size_t cells = <size_t>MAX_SERVERS * MAX_WORKERS * sizeof(int32_t)
        cdef size_t counts = <size_t>MAX_SERVERS * MAX_WORKERS * sizeof(CountRow)
        cdef size_t sources = <size_t>SOURCE_ROWS * SOURCE_CELLS * MAX_WORKERS * sizeof(uint16_t)
        cdef size_t times = <size_t>MAX_SERVERS * MAX_WORKERS * sizeof(TimeRow)
        cdef size_t sessions = <size_t>MAX_SERVERS * SESSION_CELLS
        cdef bint new = fd < 0
        cdef size_t seeds = SOURCE_ROWS * sizeof(uint64_t)
        cdef size_t pulses = MAX_WORKERS * sizeof(double)
        cdef size_t sites = MAX_SITES * sizeof(SiteRow)
        cdef size_t short = 64
        cdef size_t limits = MAX_TRAFFIC * sizeof(Limit)
        cdef size_t traffic = <size_t>MAX_WORKERS * MAX_TRAFFIC * sizeof(TrafficRow)
        cdef size_t links = <size_t>MAX_WORKERS * MAX_SERVERS * sizeof(LinkRow)
        cdef size_t workers = MAX_WORKERS * sizeof(WorkerRow)
        cdef size_t past = MAX_SERVERS * (sizeof(CountRow) + sizeof(LinkRow)) + MAX_TRAFFIC * sizeof(TrafficRow)
        past += sizeof(WorkerRow) + (MAX_SERVERS + MAX_TRAFFIC) * sizeof(uint32_t)
        self.size = rows + cells + counts + times + sources + sessions + seeds + pulses + sites + limits
        self.size += short + traffic + links + workers + past
        self.base = NULL
        if new:
            fd = os.memfd_create("gateway-board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, self.size)
        elif os.fstat(fd).st_size != self.size:
            raise OSError("board size mismatch (different version?)")
        self.fd = fd
        self.owned = new
        cdef void *base = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED if new else MAP_PRIVATE, fd, 0)
        if base == MAP_FAILED:
            raise OSError("cannot map the board")
        self.base = <char *>base
        if new:
            self.owned = False
            self.fd = _only_to_read(fd)
            self.owned = True
        self.servers = <ServerRow *>self.base
        self.in_flight_cells = <int32_t *>(self.base + rows)
        self.counts = <CountRow *>(self.base + rows + cells)
        self.times = <TimeRow *>(self.base + rows + cells + counts)
        self.source_cells = <uint16_t *>(self.base + rows + cells + counts + times)
        self.session_cells = <uint8_t *>(self.base + rows + cells + counts + times + sources)
        self.seed = <uint64_t *>(self.base + rows + cells + counts + times + sources + sessions)
        self.pulses = <double *>(self.base + rows + cells + counts + times + sources + sessions + seeds)
        self.sites = <SiteRow *>(<char *>self.pulses + pulses)
        self.limits = <Limit *>(<char *>self.sites + sites)
        self.short_until = <double *>(<char *>self.limits + limits)
        self.passed = <TrafficRow *>(<char *>self.short_until + short)
        self.links = <LinkRow *>(<char *>self.passed + traffic)
        self.workers = <WorkerRow *>(<char *>self.links + links)
        self.past_counts = <CountRow *>(<char *>self.workers + workers)
        self.past_links = <LinkRow *>(self.past_counts + MAX_SERVERS)
        self.past_traffic = <TrafficRow *>(self.past_links + MAX_SERVERS)
        self.past_worker = <WorkerRow *>(self.past_traffic + MAX_TRAFFIC)
        self.elder_slots = <uint32_t *>(self.past_worker + 1)
        self.elder_rows = self.elder_slots + MAX_SERVERS
        if new:
            self.seed[0], self.seed[1] = (int.from_bytes(os.urandom(8), "little") for _ in range(SOURCE_ROWS))

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)
        if self.owned:
            c_close(self.fd)

    cdef int _slot(self, int slot) except -1:
        if not 0 <= slot < MAX_SERVERS:
            raise IndexError(f"slot {slot} is not on the board (0 to {MAX_SERVERS - 1})")
        return slot

    cdef int _row(self, int row) except -1:
        if not 0 <= row < MAX_TRAFFIC:
            raise IndexError(f"row {row} is not on the board (0 to {MAX_TRAFFIC - 1})")
        return row

    cdef int _worker(self, int worker) except -1:
        if not 0 <= worker < MAX_WORKERS:
            raise IndexError(f"worker {worker} is not on the board (0 to {MAX_WORKERS - 1})")
        return worker

    cdef uint32_t source_cell(self, int row, const char *name, uint32_t n) noexcept nogil:
        """The cell of a source: FNV-1a with a secret start, then mixed."""
        cdef uint64_t h = 14695981039346656037ULL ^ self.seed[row]
        cdef uint32_t i
        for i in range(n):
            h = (h ^ <uint8_t>name[i]) * 1099511628211ULL
        h ^= h >> 32
        h = h * 0xD6E8FEB86659FD93ULL
        h ^= h >> 32
        return row * SOURCE_CELLS + <uint32_t>(h % SOURCE_CELLS)

    cdef int from_source(self, const uint32_t *cells) noexcept nogil:
        """Connections of a source over all workers, never too few; cells: its source_cell in each row."""
        cdef int row, worker, total, least = 0x7FFFFFFF
        for row in range(SOURCE_ROWS):
            total = 0
            for worker in range(MAX_WORKERS):
                total += self.source_cells[cells[row] * MAX_WORKERS + worker]
            if total < least:
                least = total
        return least

    def state(self, int slot):
        """The operational state: UNKNOWN, UP or DOWN. It is down if checks or its agent say so."""
        return self.servers[self._slot(slot)].state

    def checked(self, int slot):
        """The operational state according to checks, without the agent's."""
        return self.servers[self._slot(slot)].checked

    def set_state(self, int slot, int state):
        """Set the state found by checks."""
        self.servers[self._slot(slot)].checked = <uint8_t>state
        self._combine(slot)

    def set_told(self, int slot, int state):
        """Set the state reported by the server's agent; UNKNOWN: none."""
        self.servers[self._slot(slot)].told = <uint8_t>state
        self._combine(slot)

    def admin(self, int slot):
        """The admin state: READY, DRAIN or MAINTENANCE. A server that its agent sets idle drains."""
        return self.servers[self._slot(slot)].admin

    def asked(self, int slot):
        """The admin state as set by an operator or agent."""
        return self.servers[self._slot(slot)].asked

    def set_admin(self, int slot, int admin):
        """Set the admin state."""
        self.servers[self._slot(slot)].asked = <uint8_t>admin
        self._combine(slot)

    def set_idle(self, int slot, bint idle):
        """Set whether the server's agent refuses new requests, without a drain."""
        self.servers[self._slot(slot)].idle = idle
        self._combine(slot)

    cdef void _combine(self, int slot) noexcept:
        """Workers read only the outcome: one store each, never an intermediate state."""
        cdef ServerRow *row = &self.servers[slot]
        if row.checked == STATE_DOWN or row.told == STATE_DOWN:
            row.state = STATE_DOWN
        else:
            row.state = max(row.checked, row.told)
        row.admin = ADMIN_DRAIN if row.idle and row.asked == ADMIN_READY else row.asked

    def limit(self, int slot):
        """The max_connections reported by the server's agent; 0: as configured."""
        return self.servers[self._slot(slot)].limit

    def set_limit(self, int slot, int limit):
        self.servers[self._slot(slot)].limit = limit

    def weight(self, int slot):
        """The effective weight; 0.0 until control has set one (workers then use the configured weight)."""
        return self.servers[self._slot(slot)].weight

    def set_weight(self, int slot, double weight):
        self.servers[self._slot(slot)].weight = weight

    def ejected(self, int slot):
        """Whether the server is ejected because of its responses: IN_ROTATION, OUT or PROBED."""
        return self.servers[self._slot(slot)].ejected

    def set_ejected(self, int slot, int ejected):
        self.servers[self._slot(slot)].ejected = <uint8_t>ejected

    def ramp(self, int slot):
        """Progress of a returning server's slow start: a share up to 1.0."""
        return self.servers[self._slot(slot)].ramp or 1.0

    def set_ramp(self, int slot, double ramp):
        self.servers[self._slot(slot)].ramp = ramp

    def streak(self, int slot, int workers=MAX_WORKERS):
        """Failures at the server since its last success, summed over the workers."""
        cdef int i, total = 0
        self._slot(slot)
        for i in range(min(workers, MAX_WORKERS)):
            total += self.timing(slot, i).streak
        return total

    def load(self, int slot):
        """The load in the server's recent reports, 1.0 when full; None: no recent report."""
        cdef double reported = self.servers[self._slot(slot)].reported
        return reported - 1 if reported else None

    def set_load(self, int slot, load):
        self.servers[self._slot(slot)].reported = 0 if load is None else load + 1

    def said(self, int slot, int64_t since):
        """The load in the server's responses after `since` (ns): the mean of the workers' last values."""
        cdef TimeRow *row
        cdef double total = 0
        cdef int i, count = 0
        self._slot(slot)
        for i in range(MAX_WORKERS):
            row = self.timing(slot, i)
            if row.said_at > since:
                total += row.said
                count += 1
        return total / count if count else None

    def say(self, int slot, int worker, double load, int64_t now):
        """The same as workers do in compiled code for a load in a response; for tests. `now` in ns."""
        self.hear(self._slot(slot), self._worker(worker), load, now)

    def sessions(self, int slot, int64_t now, int minutes=10):
        """The approximate number of sessions at the server in the last `minutes`; `now` in ns. Only with affinity.

        Linear counting (Whang et al. 1990): from the number of empty cells. Within about 3 % up to 10,000.
        """
        cdef uint8_t *cells = self.session_cells + <size_t>self._slot(slot) * SESSION_CELLS
        cdef int i, empty = 0, minute = session_minute(now)
        for i in range(SESSION_CELLS):
            empty += cells[i] == 0 or (minute - cells[i] + 255) % 255 >= minutes
        return round(-SESSION_CELLS * log(max(1, empty) / <double>SESSION_CELLS))

    def in_flight(self, int slot):
        """Requests in flight at the server, over all workers."""
        return self.total_in_flight(self._slot(slot), MAX_WORKERS)

    def add_in_flight(self, int slot, int worker, int count):
        """The same as workers do in compiled code when they pick or finish; for tests and explain."""
        self._worker(worker)
        self.in_flight_cells[self._slot(slot) * MAX_WORKERS + worker] += count

    cdef CountRow _counted(self, int slot) except *:
        """Sums over all workers since the row was cleared, and over the gateways before this one."""
        cdef CountRow total
        cdef int i
        total = self.past_counts[self._slot(slot)]
        for i in range(MAX_WORKERS):
            _add_count(&total, self.count(slot, i))
        if self.elder is not None and self.elder_slots[slot]:
            for i in range(MAX_WORKERS):
                _add_count(&total, self.elder.count(<int>self.elder_slots[slot] - 1, i))
        return total

    cdef LinkRow _linked(self, int slot) except *:
        """The same of connections."""
        cdef LinkRow total
        cdef int i
        total = self.past_links[self._slot(slot)]
        for i in range(MAX_WORKERS):
            if self.pulses[i] != 0:
                _add_link(&total, self.link(slot, i))
        if self.elder is not None and self.elder_slots[slot]:
            for i in range(MAX_WORKERS):
                if self.elder.pulses[i] != 0:
                    _add_link(&total, self.elder.link(<int>self.elder_slots[slot] - 1, i))
        return total

    cdef WorkerRow _workers(self) except *:
        """The same of what concerns no server, frontend or backend."""
        cdef WorkerRow total = self.past_worker[0]
        cdef int i
        for i in range(MAX_WORKERS):
            _add_worker(&total, &self.workers[i])
            if self.elder is not None:
                _add_worker(&total, &self.elder.workers[i])
        return total

    def pool(self, int slot):
        """How requests got their connections to the server, over all workers."""
        cdef LinkRow total = self._linked(slot)
        return PoolReport(opened=total.opened, reused=total.reused)

    def lines_lost(self):
        """Lines of the access log that could not be written, over all workers."""
        return self._workers().lines_lost

    def lose_lines(self, int worker, uint64_t count):
        """Count lines of the access log that could not be written."""
        self.workers[self._worker(worker)].lines_lost += count

    def adopt(self, Board elder, Board eldest, servers, rows):
        """Go on with the counters of the gateway before this one, which has the board `elder` and may still count.

        eldest: the board that it had adopted, or None; what is counted there from now on is lost. servers: pairs of a
        slot here and there, rows: of frontends, backends and classes. Slots that are cleared later begin at 0.
        """
        cdef int i
        elder.elder = eldest
        for here, there in servers:
            self.past_counts[self._slot(here)] = elder._before_count(elder._slot(there))
            self.past_links[here] = elder._before_link(there)
            self.elder_slots[here] = <uint32_t>there + 1
        for here, there in rows:
            elder._before_traffic(&self.past_traffic[self._row(here)], elder._row(there))
            self.elder_rows[here] = <uint32_t>there + 1
        self.past_worker[0] = elder.past_worker[0]
        if eldest is not None:
            for i in range(MAX_WORKERS):
                _add_worker(self.past_worker, &eldest.workers[i])
        elder.elder = None
        self.elder = elder

    cdef CountRow _before_count(self, int slot) except *:
        """What others before have counted."""
        cdef CountRow total = self.past_counts[slot]
        cdef int i
        if self.elder is not None and self.elder_slots[slot]:
            for i in range(MAX_WORKERS):
                _add_count(&total, self.elder.count(self.elder._slot(<int>self.elder_slots[slot] - 1), i))
        return total

    cdef LinkRow _before_link(self, int slot) except *:
        cdef LinkRow total = self.past_links[slot]
        cdef int i
        if self.elder is not None and self.elder_slots[slot]:
            for i in range(MAX_WORKERS):
                if self.elder.pulses[i] != 0:
                    _add_link(&total, self.elder.link(<int>self.elder_slots[slot] - 1, i))
        return total

    cdef int _before_traffic(self, TrafficRow *total, int row) except -1:
        cdef int i
        total[0] = self.past_traffic[row]
        if self.elder is not None and self.elder_rows[row]:
            for i in range(MAX_WORKERS):
                if self.elder.pulses[i] != 0:
                    _add_traffic(total, self.elder.traffic(self.elder._row(<int>self.elder_rows[row] - 1), i))
        total.open = total.queued = 0
        return 0

    @property
    def elder_fd(self):
        """The descriptor of the board that was adopted; -1: none."""
        return self.elder.fd if self.elder is not None else -1

    def handshakes(self, int slot):
        """Completed TLS handshakes with the server since its row was cleared: (full, resumed), over all workers."""
        cdef CountRow total = self._counted(slot)
        return total.handshakes - total.resumed, total.resumed

    def requests(self, int slot):
        """Requests finished at the server since its row was cleared, over all workers."""
        return self._counted(slot).requests

    def failures(self, int slot):
        """Finished requests that the server failed (no response, invalid response, 5xx), over all workers."""
        return self._counted(slot).failures

    def busy_seconds(self, int slot):
        """Sum of the times from pick to end of response, in seconds, over all workers."""
        return self._counted(slot).busy_seconds

    def bytes_in(self, int slot):
        """Bytes of bodies from clients to the server, over all workers."""
        return self._counted(slot).bytes_in

    def bytes_out(self, int slot):
        """Bytes of bodies from the server to clients, over all workers."""
        return self._counted(slot).bytes_out

    cdef int _sum_traffic(self, TrafficRow *total, int row) except -1:
        """Sums over all workers, and over the gateways before this one; what is there now is of this one alone."""
        cdef int worker
        cdef int64_t open = 0, queued = 0
        total[0] = self.past_traffic[self._row(row)]
        for worker in range(MAX_WORKERS):
            if self.pulses[worker] != 0:
                _add_traffic(total, self.traffic(row, worker))
        open, queued = total.open, total.queued
        if self.elder is not None and self.elder_rows[row]:
            for worker in range(MAX_WORKERS):
                if self.elder.pulses[worker] != 0:
                    _add_traffic(total, self.elder.traffic(<int>self.elder_rows[row] - 1, worker))
        total.open, total.queued = open, queued
        return 0

    def passed_through(self, int row):
        """The counters of a frontend, backend or class since its row was cleared, summed over all workers."""
        cdef TrafficRow total
        cdef int i
        self._sum_traffic(&total, row)
        return Traffic(
            answers=tuple([total.answers[i] for i in range(1, 6)]),
            unanswered=total.answers[0],
            durations=tuple([total.durations[i] for i in range(DURATIONS)]),
            seconds=total.seconds,
            bytes_in=total.bytes_in,
            bytes_out=total.bytes_out,
            connections=total.connections,
            turned_away=total.turned_away,
            open=total.open,
            pauses=total.pauses,
            queued=total.queued,
            waited=total.waited,
            waited_seconds=total.waited_seconds,
            retried=total.retried,
            over=total.over,
            outcomes=tuple([total.outcomes[i] for i in range(MAX_OUTCOMES)]),
            abuses=tuple([total.abuses[i] for i in range(MAX_ABUSES)]),
            waits=tuple([total.waits[i] for i in range(DURATIONS)]),
            causes=tuple([total.causes[i] for i in range(MAX_CAUSES)]),
            handshakes=(total.handshakes - total.resumed, total.resumed),
            failed_handshakes=tuple([total.failed_handshakes[i] for i in range(MAX_HANDSHAKES)]),
        )

    def pass_through(self, int row, int worker, int status, double seconds, *, int outcome=1, int tries=1,
                     double waited=0):
        """The same as workers do in compiled code at the end of a request; for tests."""
        cdef Passed passed
        memset(&passed, 0, sizeof(passed))
        passed.status = status
        passed.outcome = outcome
        passed.tries = tries
        passed.took = <int64_t>(seconds * 1e9)
        passed.waited = <int64_t>(waited * 1e9)
        record(self.traffic(self._row(row), self._worker(worker)), &passed)

    def concurrency(self, int row):
        """A backend's concurrency limit and its input, with durations in seconds; None: nothing yet."""
        cdef Limit *state = &self.limits[self._row(row)]
        if state.limit == 0:
            return None
        return Concurrency(limit=state.limit, why=WHYS[state.why], base=state.base, recent=state.recent)

    def pulse(self, int worker):
        """When the worker last updated its timestamp, in seconds of the monotonic clock; 0.0: never."""
        return self.pulses[self._worker(worker)]

    def set_pulse(self, int worker, double now):
        self.pulses[self._worker(worker)] = now

    def set_short_of_memory(self, double until):
        """Until when too little memory is free, in seconds of the monotonic clock; 0.0: memory is sufficient."""
        self.short_until[0] = until

    def short_of_memory(self, double now):
        """Whether too little memory is free. now: monotonic, in seconds."""
        return now < self.short_until[0]

    def set_sites(self, sites):
        """Set the known sites: (name, load, part of new clients that is sent there, until when that is valid).

        The last is in monotonic seconds.
        """
        cdef int i
        cdef SiteRow *row
        cdef uint64_t key
        sites = sites[:MAX_SITES]
        for i, (name, load, spill, until) in enumerate(sites):
            row = &self.sites[i]
            key = _site_key(name.encode())
            if row.name != key:
                row.until = 0           # so that no reader takes one site's load for another's
                row.name = key
            row.load = load
            row.spill = spill
            row.until = until
        for i in range(len(sites), MAX_SITES):
            self.sites[i].until = 0
            self.sites[i].name = 0

    cpdef object site_load(self, str name, double now):
        """The load of a site, 1.0 when full; None: unknown. `now`: monotonic seconds."""
        cdef uint64_t key = _site_key(name.encode())
        cdef int i
        for i in range(MAX_SITES):
            if self.sites[i].name == key:
                return self.sites[i].load if now <= self.sites[i].until else None
        return None

    cpdef double site_spill(self, str name, double now) except -1:
        """The part of this site's new clients that is sent to another one, from 0 to 1. `now`: monotonic seconds."""
        cdef uint64_t key = _site_key(name.encode())
        cdef int i
        for i in range(MAX_SITES):
            if self.sites[i].name == key:
                return self.sites[i].spill if now <= self.sites[i].until else 0.0
        return 0.0

    def clear_server(self, int slot):
        """Clear the row of the server in `slot`; called when the slot is given to another server."""
        cdef ServerRow *row = &self.servers[self._slot(slot)]
        cdef uint64_t generation = row.generation + 1
        cdef int worker
        memset(row, 0, sizeof(ServerRow))
        row.generation = generation
        memset(self.in_flight_cells + slot * MAX_WORKERS, 0, MAX_WORKERS * sizeof(int32_t))
        memset(self.counts + slot * MAX_WORKERS, 0, MAX_WORKERS * sizeof(CountRow))
        for worker in range(MAX_WORKERS):
            if self.pulses[worker] != 0:
                memset(self.link(slot, worker), 0, sizeof(LinkRow))
        memset(&self.past_counts[slot], 0, sizeof(CountRow))
        memset(&self.past_links[slot], 0, sizeof(LinkRow))
        self.elder_slots[slot] = 0
        memset(self.session_cells + <size_t>slot * SESSION_CELLS, 0, SESSION_CELLS)
        memset(self.times + slot * MAX_WORKERS, 0, MAX_WORKERS * sizeof(TimeRow))

    def clear_traffic(self, int row):
        """Clear the counters of the frontend or backend in `row`; called when it is given to another."""
        cdef int worker
        memset(&self.limits[self._row(row)], 0, sizeof(Limit))
        memset(&self.past_traffic[row], 0, sizeof(TrafficRow))
        self.elder_rows[row] = 0
        for worker in range(MAX_WORKERS):
            if self.pulses[worker] != 0:
                memset(self.traffic(row, worker), 0, sizeof(TrafficRow))

    def clear_worker(self, int worker, int slots, int rows):
        """Zero the gauges of a worker that has exited.

        At the servers in the first `slots` rows, and from clients: of frontends in the first `rows` of their table.
        """
        cdef int slot, row
        self._worker(worker)
        for slot in range(min(slots, MAX_SERVERS)):
            self.in_flight_cells[slot * MAX_WORKERS + worker] = 0
            self.count(slot, worker).waiting = 0
            self.timing(slot, worker).unanswered = 0
            self.timing(slot, worker).started = 0
        for row in range(min(rows, MAX_TRAFFIC)):
            self.traffic(row, worker).open = 0
            self.traffic(row, worker).queued = 0
        for slot in range(SOURCE_ROWS * SOURCE_CELLS):
            if self.source_cells[slot * MAX_WORKERS + worker]:
                self.source_cells[slot * MAX_WORKERS + worker] = 0


cdef uint64_t _site_key(bytes name) noexcept:
    """FNV-1a, never 0. Names are those of the site file."""
    cdef uint64_t h = 14695981039346656037ULL
    cdef uint8_t c
    for c in name:
        h = (h ^ c) * 1099511628211ULL
    return h or 1
