from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t
from gateway.proxy.conn cimport Conn, Handler
from gateway.proxy.linger cimport Linger
from gateway.proxy.listener cimport ClientConn
from gateway.proxy.nghttp2 cimport FrameBuffer, ng_frame_hd, ng_session
from gateway.proxy.stream_tunnel cimport StreamTunnel
from gateway.proxy.transaction cimport Downstream
from gateway.proxy.worker_context cimport ClientProtocol, WorkerContext
from gateway.wire.edit cimport Out
from gateway.wire.http2_head cimport Block
from gateway.wire.origin cimport Provenance

cdef enum Phase:
    H_OPEN = 0              # accepts requests
    H_LEAVING               # the client has been told to send no more; requests in transit are still accepted
    H_LAST                  # it has been told the last accepted request; those up to it are processed
    H_FLUSH                 # everything is written, but not yet sent
    H_LINGER                # after the FIN: discard further input
    H_PHASES

cdef class Http2Stream(Downstream):
    """A request of a client that speaks HTTP/2."""
    cdef Http2Connection owner
    cdef int32_t id
    # the request
    cdef Out held                       # request body that no server has taken yet
    cdef int64_t received               # bytes of its body
    cdef int64_t length                 # expected length; -1: not given
    cdef bytes request_trailers         # complete lines, or None
    cdef bytes key                      # of a WebSocket: the Sec-WebSocket-Key that its server gets; else None
    cdef StreamTunnel tunnel            # when it is open, or has been
    cdef uint8_t request_ended          # it has arrived completely
    cdef uint8_t request_given          # and the transaction has it
    cdef uint8_t wanting                # in the list of streams whose server takes data again
    # the answer
    cdef const char *given              # response body passed by the current call, or of `page`
    cdef size_t given_n
    cdef Out kept                       # kept.n bytes at kept.p + kept_at: data that did not fit into its window
    cdef uint32_t kept_at
    cdef bytes page                     # of a response of the gateway itself
    cdef bytes trailers                 # complete lines, or None
    cdef int64_t left                   # of a body of known length; -1: not known
    cdef int64_t progress               # when data was last sent, in ns
    cdef uint8_t is_head                # the method is HEAD
    cdef uint8_t ended                  # the response is complete
    cdef uint8_t finished               # and its end has been sent
    cdef uint8_t cut                    # it ends with a reset once the buffered data has been sent
    cdef uint8_t blocked                # reading from its server is paused
    cdef uint8_t closed                 # nothing can be sent or received
    cdef uint8_t ours                   # the gateway resets it
    cdef uint8_t theirs                 # the client resets it
    cdef uint32_t code                  # of the reset after a response that precedes the end of the request

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
    cdef FrameBuffer frame
    cdef uint8_t phase
    cdef uint8_t busy                   # the library is running: it must not be called to send
    cdef uint8_t rests                  # no request has come for a while: it has given memory back
    cdef uint8_t readers                # some streams are blocked
    cdef uint8_t deaf                   # the client takes no more data
    cdef uint8_t pointing               # a write is being composed, of bytes that stay valid
    cdef uint8_t ends                   # the connection is ending, with all its requests
    cdef int abuse                      # the reason, if the client has caused it: an Abuse; -1: none
    cdef int budget                     # the client's remaining budget; see _charge
    cdef int64_t budget_at              # when that was last computed, in ns
    cdef dict streams                   # by id
    cdef list wanting                   # streams whose servers take data again
    cdef int active                     # transactions in progress
    cdef Block block                    # the header block being read
    cdef int64_t block_since            # when it began, in ns; 0: none
    cdef Out out                        # frames that are sent together at the end of this turn of the loop
    cdef Linger linger

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
    cdef int _feed_tunnel(self, Http2Stream s) except -1
    cdef int _feed_wanting(self) except -1
    cdef int _wake_readers(self) except -1
    cdef int _request(self, Http2Stream s, bint ended) except -1
    cdef int _refuse(self, Http2Stream s, int reason) except -1
    cdef int _make_provenance(self) except -1
    cdef int _set_deadline(self) except -1
    cdef bint _rest(self) except -1
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
    """The first bytes of a connection, which determine its HTTP version."""
    cdef WorkerContext context

    cdef int _begin(self, ClientConn conn, bint http2, const char *p, size_t n) except -1
