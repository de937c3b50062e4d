from libc.stdint cimport int64_t, uint32_t
from gateway.balance.policy cimport Members
from gateway.wire.head cimport Head

cdef class Affinity:
    """Finds the server that served a client before. The client holds the state: there is no table."""
    cdef readonly bint marks    # whether a response of another server than the one found must carry a mark
    cdef readonly bint learns   # whether servers set the cookie: then find_learned and learn are used
    cdef Members members

    cdef int find(self, const char *head, Head *h, const char *uri, uint32_t uri_len, bytes source) except -2
    cdef bytes mark(self, int i, int64_t now)
    cdef int find_learned(self, const char *asked, uint32_t n) except -2
    cdef bytes learn(self, int i, const char *p, Head *h, const char *asked, uint32_t asked_len, bint moved)
