from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from gateway.proxy.backend cimport ServerProtocol
from gateway.proxy.conn cimport Conn, Handler, Poller, Work
from gateway.proxy.nghttp2 cimport ng_frame_hd, ng_session
from gateway.proxy.server cimport Server, ServerConn, TlsServer
from gateway.proxy.transaction cimport Transaction, Upstream
from gateway.wire.edit cimport Out
from gateway.wire.http2_answer cimport AnswerBlock

cdef enum Phase:
    Q_OPENING = 0           # connected; the server's SETTINGS have not come yet
    Q_OPEN                  # takes requests
    Q_LEAVING               # takes no more; those that it has are finished
    Q_CLOSED

cdef class Pool:
    """The HTTP/2 connections of a worker to one server, and those being opened."""
    cdef Server server
    cdef list sessions                  # Http2Session, open or leaving
    cdef list dials                     # Dial
    cdef uint32_t limit                 # streams that the newest connection takes at a time
    cdef bint http1                     # the server has last agreed on HTTP/1.1
    cdef bint gone                      # the server is no longer in the site file

    cdef object peer_of(self, Work work)
    cdef ServerConn plain(self, Poller poller, Work work)
    cdef Seat borrow(self, Work work)
    cdef ServerConn connect(self, Poller poller, Work work)
    cdef bint _takes_no_websockets(self, object peer) noexcept
    cdef bint _go_aside(self, Seat seat, Poller poller) except -1
    cdef int step_aside(self, Seat seat, Poller poller) except -1
    cdef int dial_for(self, list seats, object peer, bytes name, Poller poller) except -1
    cdef int fall_back(self, Dial dial, ServerConn conn) except -1
    cdef int retire(self) except -1

cdef class Http2Server(Server):
    """One that is spoken to in HTTP/2 without TLS."""
    cdef Pool pool

cdef class Http2TlsServer(TlsServer):
    """One that is spoken to in TLS, and in HTTP/2 if it agrees (ALPN)."""
    cdef Pool pool

cdef class Dial(Work):
    """A connection being opened, and the requests that wait for it."""
    cdef Pool pool
    cdef object peer                    # Pool.peer_of the requests
    cdef bytes name                     # by which the server is called, if clients choose it
    cdef list seats
    cdef ServerConn conn
    cdef Http2Session session           # once it is connected
    cdef int64_t began
    cdef bint turned                    # it tries the server's other address

    cdef bint start(self, Poller poller) except -1
    cdef int fail(self, int error) except -1
    cdef int leave(self, Seat seat) except -1
    cdef int on_deadline(self) except -1
    cdef int hand_out(self) except -1

cdef class Seat(ServerConn):
    """One request's place on a shared connection: a ServerConn without a socket, while it waits for one."""
    cdef Dial dial
    cdef Http2Session session
    cdef ServerConn own                 # a connection of HTTP/1.1 that is being opened for it alone

    cdef int take_place(self, Http2Session session) except -1

cdef class Aside(Work):
    """A connection of HTTP/1.1 being opened for a WebSocket, as the server takes none over HTTP/2."""
    cdef Seat seat

cdef class StreamEnd(Conn):
    """The server's end of a tunnel that is a stream (RFC 8441): for a Tunnel, a connection like any other."""
    cdef Http2ServerStream stream

cdef class Http2ServerProtocol(ServerProtocol):
    cdef ServerProtocol http1

cdef class Http2ServerStream(Upstream):
    """A request to a server that speaks HTTP/2."""
    cdef Http2Session owner
    cdef int32_t id
    # the request
    cdef Out kept                       # kept.n bytes at kept.p + kept_at: the part of its body that is not framed yet
    cdef uint32_t kept_at
    cdef bytes trailers                 # complete lines, or None
    cdef uint8_t request_ended          # the whole of it is here
    cdef uint8_t request_sent           # and has been sent
    cdef uint8_t sent                   # its head has been sent
    cdef uint8_t blocked                # the transaction waits until the server takes more
    # the response
    cdef Out held                       # held.n bytes at held.p + held_at: the part that the client does not take yet
    cdef uint32_t held_at
    cdef bytes response_trailers        # complete lines, or None
    cdef int64_t left                   # of a body of known length; -1: not known
    cdef uint8_t bodiless               # a body must not come
    cdef uint8_t interims
    cdef uint8_t answered               # its final head has come
    cdef uint8_t response_ended
    cdef uint8_t wanting                # in the list of streams whose clients take data again
    cdef uint8_t invalid                # libnghttp2 ends it because of an invalid frame
    cdef uint8_t too_large              # its head was not sent: the server takes none of that size
    cdef uint8_t closed                 # nothing can be sent or received
    cdef uint32_t code                  # of the reset that has closed it
    cdef int64_t heard                  # what had come on the connection when it began
    cdef bytes key                      # it asks for a WebSocket: the client's Sec-WebSocket-Key; else None
    cdef StreamEnd end_of_tunnel        # while it is one

    cdef int keep(self, const char *p, size_t n) except -1
    cdef int hold(self, const char *p, size_t n) except -1
    cdef int _agree(self, AnswerBlock *b, bint ended) except -1
    cdef int _wake_tunnel(self) except -1
    cdef int on_head(self, AnswerBlock *b, bint ended) except -1
    cdef int on_data(self, const char *p, size_t n) except -1
    cdef int on_end(self) except -1
    cdef int on_close(self) except -1
    cdef int feed(self, bint all_of_it) except -1
    cdef int lost(self, int outcome, int64_t detail) except -1
    cdef int reject(self, int outcome, int64_t detail) except -1
    cdef int _finish(self) except -1
    cdef int _reset(self, uint32_t code) except -1

cdef class Http2Session(Handler):
    """HTTP/2 on a connection to a server."""
    cdef ServerConn conn
    cdef Pool pool
    cdef Dial dial                      # until it is open
    cdef ng_session *session
    cdef uint8_t phase
    cdef uint8_t busy                   # the library is running: it must not be called to send
    cdef uint8_t greeted                # the server's SETTINGS have come
    cdef uint8_t websockets             # it takes extended CONNECT (RFC 8441)
    cdef uint8_t deaf                   # the server takes no more data
    cdef uint8_t farewell               # the server has said GOAWAY
    cdef uint8_t ends                   # the connection is ending, with all its requests
    cdef int why                        # the Reason if so
    cdef uint32_t limit                 # streams at a time
    cdef uint32_t served                # requests so far
    cdef int64_t idle_ms
    cdef int64_t response_ms
    cdef dict streams                   # by id
    cdef list gone                      # streams that were closed while the library was running
    cdef set unread                     # streams that are over, with parts of responses that clients do not take yet
    cdef list wanting                   # streams whose clients take data again
    cdef list blocked                   # streams whose transactions wait for the server to take more
    cdef AnswerBlock block              # the header block being read
    cdef int64_t block_since            # when it began, in ns; 0: none
    cdef Out out                        # frames that are sent together at the end of this turn of the loop
    cdef int64_t pieces                 # reads that brought something
    cdef int64_t heard                  # when the last one did, in ns
    cdef int64_t pinged                 # when a PING was last sent, in ns; 0: not since the last part of a response
    cdef int budget                     # the server's, see charge
    cdef int64_t budget_at              # when that was last computed, in ns

    cdef int start(self) except -1
    cdef bint has_room(self) noexcept
    cdef Http2ServerStream stream(self)
    cdef int begun(self, Http2ServerStream s) except -1
    cdef int pump(self) except -1
    cdef int take(self, const char *p, size_t n) except -1
    cdef int charge(self, int cost) except -1
    cdef int end_for(self, int why, bint said) except -1
    cdef int on_begun(self, const ng_frame_hd *head) except -1
    cdef int on_settings(self) except -1
    cdef int on_goaway(self) except -1
    cdef int retire_soon(self) except -1
    cdef int end(self, int outcome, int64_t detail, int error) except -1
    cdef int _enter(self, int phase) except -1
    cdef int _open(self) except -1
    cdef int _read(self) except -1
    cdef int _flush(self) except -1
    cdef bint _full(self) except -1
    cdef int _wake_blocked(self) except -1
    cdef int _after(self) except -1
    cdef int _goodbye(self) except -1
    cdef int _set_deadline(self) except -1
    cdef int64_t _patience(self) noexcept
