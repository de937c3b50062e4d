from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from gateway.proxy.conn cimport Conn, Handler
from gateway.proxy.listener cimport ClientConn
from gateway.proxy.nghttp2 cimport ng_frame_hd, ng_session
from gateway.proxy.transaction cimport Downstream
from gateway.proxy.worker_context cimport ClientProtocol, WorkerContext
from gateway.wire.edit cimport Out
from gateway.wire.http2_head cimport Block
from gateway.wire.origin cimport Provenance

cdef enum Phase:
    H_OPEN = 0              # requests are taken
    H_LEAVING               # the client has been told not to send more; what is on its way is still taken
    H_LAST                  # it has been told which request was the last one; those up to it are worked on
    H_FLUSH                 # all is written, but not yet sent
    H_LINGER                # said goodbye; reading away what the client still sends
    H_PHASES

cdef class Http2Stream(Downstream):
    """A request of a client that speaks HTTP/2."""
    cdef Http2Connection owner
    cdef int32_t id
    # the request
    cdef Out held                       # of its body: what no server has taken yet
    cdef int64_t received               # bytes of its body
    cdef int64_t length                 # that it should have; -1: not given
    cdef bytes request_trailers         # complete lines, or None
    cdef uint8_t request_ended          # all of it has come
    cdef uint8_t request_given          # and the transaction has it
    cdef uint8_t wanting                # is in the list of those whose server takes data again
    # the answer
    cdef const char *given              # of its body: what it is given by the call under way, or of `page`
    cdef size_t given_n
    cdef Out kept                       # kept.n bytes at kept.p + kept_at: what its window had no room for
    cdef uint32_t kept_at
    cdef bytes page                     # of an answer of the gateway's own
    cdef bytes trailers                 # complete lines, or None
    cdef int64_t left                   # of a body of known length; -1: not known
    cdef int64_t progress               # when some of it was sent last, in ns
    cdef uint8_t is_head                # the method is HEAD
    cdef uint8_t ended                  # all of the answer is there
    cdef uint8_t finished               # and its end has been sent
    cdef uint8_t cut                    # it ends with a reset once what is kept has been sent
    cdef uint8_t blocked                # its server is not read from
    cdef uint8_t closed                 # nothing can be sent or received
    cdef uint8_t ours                   # it is the gateway that resets it
    cdef uint8_t theirs                 # it is the client
    cdef uint32_t code                  # of the reset that follows an answer before the end of the request

    cdef int _respond(self, Out *head, bint bare) except -1
    cdef int _hold(self, const char *p, size_t n) except -1
    cdef int _keep(self, const char *p, size_t n) except -1
    cdef int _reset(self, uint32_t code) except -1

cdef class Http2Connection(Handler):
    """HTTP/2 on a client's connection."""
    cdef ClientConn conn
    cdef WorkerContext context
    cdef Provenance provenance
    cdef ng_session *session
    cdef uint8_t phase
    cdef uint8_t busy                   # the library is running: it must not be called to send
    cdef uint8_t readers                # some streams are blocked
    cdef uint8_t deaf                   # the client takes nothing more
    cdef uint8_t pointing               # a write is being composed, of bytes that stay where they are
    cdef uint8_t ends                   # the connection ends, with all its requests
    cdef int abuse                      # why, if the client has brought it about: an Abuse; -1: it has not
    cdef int budget                     # what it may still cost; see _charge
    cdef int64_t budget_at              # when that was reckoned, in ns
    cdef dict streams                   # by id
    cdef list wanting                   # streams whose servers take data again
    cdef int active                     # transactions under way
    cdef Block block                    # the header block that is being read
    cdef int64_t block_since            # when it began, in ns; 0: none
    cdef object error                   # an exception on its way through the library
    cdef Out out                        # frames that are sent together, when this turn of the loop is over
    cdef int64_t linger_from            # when that began, in ns

    cdef int start(self) except -1
    cdef int take(self, const char *p, size_t n) except -1
    cdef int pump(self) except -1
    cdef int _enter(self, int phase) except -1
    cdef int _read(self) except -1
    cdef int _after(self) except -1
    cdef int _emit(self, const char *p, size_t n) except -1
    cdef int _flush(self) except -1
    cdef bint _full(self) except -1
    cdef int _feed(self, Http2Stream s) except -1
    cdef int _feed_wanting(self) except -1
    cdef int _wake_readers(self) except -1
    cdef int _request(self, Http2Stream s, bint ended) except -1
    cdef int _refuse(self, Http2Stream s, int reason) except -1
    cdef int _make_provenance(self) except -1
    cdef int _set_deadline(self) except -1
    cdef int _end_all(self, int outcome) except -1
    cdef int _say_goodbye(self) except -1
    cdef int _discard(self) except -1
    cdef int _end_slow_readers(self) except -1
    cdef int _terminate(self, uint32_t code) except -1
    cdef int charge(self, int abuse, int cost) except -1
    cdef void earn(self) noexcept
    cdef int end_for(self, int abuse, bint said) except -1
    cdef int on_begun(self, const ng_frame_hd *head) except -1
    cdef int on_block_begun(self, int32_t id, bint request) except -1
    cdef int on_block_ended(self, int32_t id, bint request, bint ended) except -1
    cdef int on_chunk(self, int32_t id, const char *p, size_t n) except -1
    cdef int on_ended(self, int32_t id) except -1
    cdef int on_closed(self, int32_t id, uint32_t code) except -1
    cdef int on_reset(self, int32_t id) except -1
    cdef int on_sent_end(self, int32_t id) except -1

cdef class Http2ClientProtocol(ClientProtocol):
    pass

cdef class Negotiation(Handler):
    """The first bytes of a connection, which say what HTTP it speaks."""
    cdef WorkerContext context

    cdef int _begin(self, ClientConn conn, bint http2, const char *p, size_t n) except -1
