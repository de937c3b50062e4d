"""Limits on the size of requests that routes set; of several, the smallest holds."""

from libc.stdint cimport int64_t

from gateway.rules.actions cimport Step
from gateway.rules.view cimport View


cdef class LimitBody(Step):
    """body_bytes: largest body; what decides refuses a longer one, or ends a request whose body turns out longer."""
    cdef int64_t body_bytes

    def __init__(self, int64_t body_bytes, str text):
        self.body_bytes = body_bytes
        self.text = text

    cdef object run(self, View v):
        if v.body_bytes < 0 or self.body_bytes < v.body_bytes:
            v.body_bytes = self.body_bytes
        return None


cdef class LimitHead(Step):
    """header_bytes: largest head, as it came; what decides refuses a longer one."""
    cdef int64_t header_bytes

    def __init__(self, int64_t header_bytes, str text):
        self.header_bytes = header_bytes
        self.text = text

    cdef object run(self, View v):
        if v.header_bytes < 0 or self.header_bytes < v.header_bytes:
            v.header_bytes = self.header_bytes
        return None
