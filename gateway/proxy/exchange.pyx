"""One request and its response: what is known about it, in one object that is lent and taken back.

Exchanges are recycled: after the first few, a request allocates nothing here.
"""

from libc.stdlib cimport free
from gateway.wire.edit cimport out_put, out_reserve
from gateway.wire.head cimport F_REFERER, F_USER_AGENT, M_OTHER

cdef enum:
    REPLAY = 64 * 1024      # bytes of a body that are kept for a retry
    KEPT = 256              # exchanges kept for reuse
    LARGE = 16 * 1024       # a buffer that has grown beyond this is not kept

cdef Exchange _spare = None     # the first of a chain
cdef int _spares = 0


cdef class Exchange:
    def __dealloc__(self):
        free(self.head.p)
        free(self.upstream_head.p)
        free(self.trailers.p)
        free(self.response_trailers.p)
        free(self.replay.p)

    cdef void _reset(self, int64_t now) noexcept:
        self.trailers.n = self.response_trailers.n = 0
        self.replay_lost = 0
        self.replay.n = 0
        self.belongs = -1
        self.status = 0
        self.started = now
        self.picked = self.answered = 0
        self.bytes_in = self.bytes_out = 0
        self.args.tried.count = 0
        self.args.key = 0
        self.counted = self.timed = False

    cdef void begin_nameless(self, int64_t now) noexcept:
        """An exchange for something that is no request: it has an answer and a log line, and nothing else."""
        self.method.n = self.target.n = self.host.n = self.user_agent.n = self.referer.n = self.upgrade.n = 0
        self.method_code = M_OTHER
        self.minor = 1
        self.has_body = 0
        self._reset(now)

    cdef int begin(self, const char *p, Head *h, int64_t now) except -1:
        """Take over the head scanned at p: nothing of the caller's buffer is needed afterwards."""
        cdef int i
        self.head.n = 0
        out_reserve(&self.head, h.length)
        out_put(&self.head, p, h.length)
        self.method.at = 0
        self.method.n = h.method_len
        self.target.at = h.target
        self.target.n = h.target_len
        self.host.at = h.host
        self.host.n = h.host_len
        self.user_agent.n = self.referer.n = self.upgrade.n = 0
        if h.upgrade:
            self.upgrade.at = h.fields[h.upgrade_field].value
            self.upgrade.n = h.fields[h.upgrade_field].value_len
        for i in range(h.count):
            if h.fields[i].known == F_USER_AGENT:
                self.user_agent.at = h.fields[i].value
                self.user_agent.n = h.fields[i].value_len
            elif h.fields[i].known == F_REFERER:
                self.referer.at = h.fields[i].value
                self.referer.n = h.fields[i].value_len
        self.method_code = h.method
        self.minor = h.minor
        self.has_body = h.chunked or h.content_length > 0
        self._reset(now)
        return 0

    cdef int keep_body(self, const char *p, size_t n) except -1:
        """Keep a piece of the body as it is sent, for a retry; give up on all of it when it gets too long."""
        if self.replay_lost:
            return 0
        if self.replay.n + n > REPLAY:
            self.replay_lost = 1
            self.replay.n = 0
            return 0
        out_reserve(&self.replay, n)
        out_put(&self.replay, p, <uint32_t>n)
        return 0


cdef Exchange new_exchange():
    global _spare, _spares
    cdef Exchange ex = _spare
    if ex is None:
        return Exchange()
    _spare = ex.next_spare
    ex.next_spare = None
    _spares -= 1
    return ex


cdef void recycle(Exchange ex):
    global _spare, _spares
    ex.backend = ex.server = ex.edits = ex.klass = None
    if (_spares < KEPT and ex.head.capacity <= LARGE and ex.upstream_head.capacity <= LARGE
            and ex.replay.capacity <= LARGE):
        ex.next_spare = _spare
        _spare = ex
        _spares += 1
