"""Traces (W3C Trace Context): what servers are told of the trace of a request, and what its spans are made of.

A request continues the trace that its traceparent names, or begins one, which is named by the id of the request.
Whether it is sampled, a trusted peer says in its traceparent; for all others the gateway draws, so that clients cannot
have every request recorded. Each try at a server is a span of its own: that is what the server gets as its parent.

Of a sampled request two lines go to the tracing process (gateway/tracing/), as to a tail: the trace with the tries at
servers, and the record. A worker has no Tracing if the site has none: then a request costs a few instructions.
"""

import json
import os
import time

from cpython.bytes cimport PyBytes_AS_STRING
from libc.string cimport memcpy

from gateway.outcome cimport outcome_row
from gateway.proxy.server cimport Server
from gateway.wire.head cimport F_TRACEPARENT, same_any
from gateway.wire.request_id cimport (
    FLAGS_AT, PARENT_ID_AT, TRACE_ID_AT, find_traceparent, is_trace_id, next_id,
)
from gateway.wire.siphash cimport siphash64

from gateway.proxy.server import address_text

cdef extern from "<string.h>" nogil:
    void *memmem(const void *text, size_t n, const void *wanted, size_t m)

cdef const char *_NAME = b"\r\ntraceparent: 00-"
cdef enum:
    NAME = 18                   # bytes of _NAME
    MOST_TRIES = 16             # that are told of


cdef class Tracing:
    """fd: the socket of packets to the tracing process, which stays the caller's. sample: share of requests, 0 to 1."""

    def __init__(self, WorkerContext context, int fd, double sample):
        self.context = context
        self.packets = Packets(context.poller.loop, fd)
        # 2**64 - 1 would leave one request in 2**64 out.
        self.threshold = <uint64_t>(-1) if sample >= 1 else <uint64_t>(sample * 18446744073709551616.0)
        memcpy(self.key, PyBytes_AS_STRING(<bytes>os.urandom(16)), 16)

    def close(self):
        """Send what is left."""
        self.packets.close()

    cdef bint _is_drawn(self, Transaction t) noexcept:
        return siphash64(self.key, <const uint8_t *>t.id, t.id_n) < self.threshold

    cdef int begin(self, Transaction t, const char *p, Head *h) except -1:
        """Give a request its trace, by its head as received."""
        cdef Trace trace = Trace.__new__(Trace)
        cdef bint trusted = t.downstream.provenance.trusts is not None
        cdef const char *came = find_traceparent(p, h) if h.kinds & (1u << F_TRACEPARENT) else NULL
        trace.tracing = self
        next_id(&self.context.ids, trace.ids)
        if came != NULL:
            trace.continued = True
            memcpy(trace.trace_id, came + TRACE_ID_AT, ID_LENGTH)
            memcpy(trace.parent, came + PARENT_ID_AT, SPAN_ID)
        elif is_trace_id(t.id, t.id_n):
            memcpy(trace.trace_id, t.id, ID_LENGTH)
        else:
            next_id(&self.context.ids, trace.trace_id)
        if came != NULL and trusted:
            trace.sampled = came[FLAGS_AT + 1] in b"13579bdf"       # the lowest bit of the flags
        else:
            trace.sampled = self._is_drawn(t)
        t.trace = trace
        return 0


cdef class Trace:
    cdef bytes lines(self, const char *p, Head *h, bytes extra):
        """The rules' lines for the server with the traceparent; the client's is marked to be left out, and so is a
        tracestate that belongs to none. A traceparent of the rules stays alone."""
        cdef int i
        if b"traceparent:" in extra.lower():
            return extra
        for i in range(h.count):
            if h.fields[i].known == F_TRACEPARENT or (
                    not self.continued and h.fields[i].name_len == 10
                    and same_any(p + h.fields[i].name, b"tracestate", 10)):
                h.fields[i].drop = True
        return b"%straceparent: 00-%s-%s-0%d\r\n" % (
            extra, self.trace_id[:ID_LENGTH], self.ids[SPAN_ID:ID_LENGTH], self.sampled)

    cdef int begin_try(self, Transaction t) except -1:
        """The request is about to go to a server: the first one gets the span that its head was written with."""
        cdef char[ID_LENGTH] fresh
        cdef char *at
        cdef Server server = t.attempt.server
        if not self.sampled:
            return 0
        if self.tries is not None:
            next_id(&self.tracing.context.ids, fresh)
            memcpy(self.ids + SPAN_ID, fresh, SPAN_ID)
            at = <char *>memmem(t.upstream_head.p, t.upstream_head.n, _NAME, NAME)
            if at != NULL and at + NAME + ID_LENGTH + 1 + SPAN_ID <= t.upstream_head.p + t.upstream_head.n:
                memcpy(at + NAME + ID_LENGTH + 1, fresh, SPAN_ID)
        else:
            self.tries = []
        self.began = t.poller.now
        self.server = server.name
        self.address = address_text(server.address)
        return 0

    cdef int end_try(self, Transaction t, object result) except -1:
        """A try is over: by the status of the answer, or an outcome."""
        if self.began:
            if len(self.tries) < MOST_TRIES:
                self.tries.append((self.ids[SPAN_ID:ID_LENGTH].decode("ascii"), self.server, self.address, self.began,
                                   t.poller.now, result))
            self.began = 0
        return 0

    cdef int end(self, Transaction t, int64_t now) except -1:
        """The request has ended: write its lines, if it is sampled."""
        cdef Packets packets = self.tracing.packets
        cdef int64_t clock
        if not self.sampled:
            return 0
        clock = time.time_ns() - time.monotonic_ns()
        self.end_try(t, t.status or (<bytes>outcome_row(t.outcome).name).decode())
        if packets.full():
            packets.lost += 1
            return packets.send_later()
        said = {
            "trace": self.trace_id[:ID_LENGTH].decode("ascii"), "span": self.ids[:SPAN_ID].decode("ascii"),
            "parent": self.parent[:SPAN_ID].decode("ascii") if self.continued else "",
            "begin": t.started + clock, "end": now + clock,
            "tries": [(*one[:3], one[3] + clock, one[4] + clock, one[5]) for one in self.tries or ()],
        }
        if packets.add_line(json.dumps(said).encode() + b"\n"):
            return packets.add_record(t, now)
        return packets.send_later()
