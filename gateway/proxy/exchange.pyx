"""One request and its response: what is known about it, in one object that is lent and taken back.

Exchanges are recycled: after the first few, a request allocates nothing here.
"""

from libc.stdlib cimport free
from gateway.wire.edit cimport out_put, out_reserve
from gateway.wire.head cimport (
    F_REFERER, F_USER_AGENT, M_DELETE, M_GET, M_HEAD, M_OPTIONS, M_OTHER, M_PUT, M_TRACE,
)

cdef enum:
    KEPT = 256              # exchanges kept for reuse
    LARGE = 16 * 1024       # a buffer that has grown beyond this is not kept

cdef list _free = []


cdef class Exchange:
    def __dealloc__(self):
        free(self.head.p)
        free(self.upstream_head.p)

    cdef void _reset(self, int64_t now) noexcept:
        self.body_touched = 0
        self.set_cookie = 0
        self.status = 0
        self.started = now
        self.picked = self.answered = 0
        self.bytes_in = self.bytes_out = 0
        self.tried.count = 0
        self.counted = False

    cdef void begin_nameless(self, int64_t now) noexcept:
        """An exchange for something that is no request: it has an answer and a log line, and nothing else."""
        self.method.n = self.target.n = self.host.n = self.user_agent.n = self.referer.n = 0
        self.method_code = M_OTHER
        self.minor = 1
        self.idempotent = self.has_body = 0
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
        self.user_agent.n = self.referer.n = 0
        for i in range(h.count):
            if h.fields[i].known == F_USER_AGENT:
                self.user_agent.at = h.fields[i].value
                self.user_agent.n = h.fields[i].value_len
            elif h.fields[i].known == F_REFERER:
                self.referer.at = h.fields[i].value
                self.referer.n = h.fields[i].value_len
        self.method_code = h.method
        self.minor = h.minor
        # RFC 9110 section 9.2.2
        self.idempotent = (h.method == M_GET or h.method == M_HEAD or h.method == M_PUT or h.method == M_DELETE
                           or h.method == M_OPTIONS or h.method == M_TRACE)
        self.has_body = h.chunked or h.content_length > 0
        self._reset(now)
        return 0

cdef Exchange new_exchange():
    if _free:
        return <Exchange>_free.pop()
    return Exchange()


cdef void recycle(Exchange ex):
    ex.backend = ex.server = None
    if len(_free) < KEPT and ex.head.capacity <= LARGE and ex.upstream_head.capacity <= LARGE:
        _free.append(ex)
