from libc.stdint cimport int64_t, uint8_t, uint64_t
from gateway.board cimport Board, LinkRow
from gateway.proxy.conn cimport Conn, Poller, Work
from gateway.proxy.tls_to_servers cimport ClientContext, Peer

cdef class Server:
    """One server of a backend: its address, its idle connections, its row on the Board."""
    cdef readonly str backend
    cdef readonly str name
    cdef readonly object address        # (host, port), or a path
    cdef bytes log_name
    cdef readonly bytes token           # identifies the server in affinity cookies
    cdef readonly int slot
    cdef LinkRow *linked                # counts its connections, on the Board
    cdef int idle                       # number of idle connections
    cdef ServerConn last                # the most recently used one; the others follow
    cdef Board board
    cdef int worker
    cdef bytes sockaddr
    cdef bytes other                    # localhost's address in the other family; None: not localhost
    cdef bint gone                      # no longer in the site file: pool nothing
    cdef int error                      # errno of a `connect` that returned None
    cdef readonly int proxy_version     # of the PROXY header that begins each connection; 0: none does
    cdef dict said                      # time of the last log line about a failure, by outcome: (ns, number since)

    cdef void rest(self, ServerConn conn) noexcept
    cdef void leave(self, ServerConn conn) noexcept
    cdef ServerConn borrow(self, Work work)
    cdef bint turn(self, int error) noexcept
    cdef ServerConn connect(self, Poller poller, Work work)

cdef class TlsServer(Server):
    """One that is spoken to in TLS."""
    cdef readonly ClientContext context
    cdef readonly object called         # its name, as Peer has it; None: that which the client asks for
    cdef Peer peer
    cdef dict by_name                   # name -> Peer, if it is as clients call it

    cdef Peer peer_of(self, Work work)

# The state of a connection to a server.
cdef enum ServerConnState:
    S_CONNECTING = 0
    S_BUSY = 1              # in use by its handler
    S_IDLE = 2              # in the pool
    S_CLOSED = 3

# Why a connection is for one client alone.
cdef enum Private:
    P_AUTHENTICATED = 1     # the client has authenticated the connection as a whole
    P_INTRODUCED            # its PROXY header names the client

cdef class ServerConn(Conn):
    """A connection to a server, from connect to close, pooled in between.

    The caller that gets it busy (borrow, on_connected) sets its handler before the event is over, and returns it by
    `rest`, or closes it.
    """
    cdef readonly Server server
    cdef ServerConn older, newer        # idle connections to the same server
    cdef bint resting                   # it is one of them
    cdef Work work                      # the work that waits for it while it connects
    cdef uint8_t state
    cdef uint8_t served                 # number of requests it has carried, up to 255
    cdef uint8_t fin                    # its FIN has arrived, or (Unix socket) a reset may be seen as an end
    cdef uint8_t private                # to one client: one of Private; 0: it is not
    cdef uint8_t silent                 # its PROXY header has not been sent yet
    cdef bytes introduced               # that header, or None

    cdef int become(self, int state) except -1
    cdef int rest(self, int64_t ms) except -1
    cdef int rest_apart(self, int64_t ms) except -1
    cdef bint take(self) except -1
    cdef bint _introduce(self) except -1
    cdef int _connect_failed(self, int error) except -1
    cdef int _shake_hands(self) except -1
