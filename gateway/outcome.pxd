# How a request ended. Each has a name, a side at fault and a status in the table of outcome.pyx.
cdef enum Outcome:
    O_NONE = 0
    # the client has its answer
    O_OK
    O_RETRIED                   # from another server than the one asked first, or at a second try
    O_ANSWERED                  # a route of the site file answers by itself
    O_NO_ROUTE
    # the request was refused
    O_REFUSED                   # by the rules of HTTP or a limit; `detail` is a Reason of wire/head.pxd
    O_NOT_ADMITTED              # `admit: never`
    O_RATE_LIMITED
    O_CLASS_FULL
    O_WAITING                   # for a session: the answer is the waiting page
    O_SESSIONS_FULL
    O_QUEUE_FULL
    O_QUEUE_TIMEOUT
    O_SHED                      # from a queue, for the good of other requests
    O_NO_SERVER
    # no connection to a server
    O_CONNECT_REFUSED
    O_CONNECT_TIMEOUT
    O_CONNECT_UNREACHABLE
    O_CONNECT_FAILED            # `detail` is an errno
    O_NO_DESCRIPTOR
    # `detail` of the five is what OpenSSL says, as in tls_to_servers.pyx
    O_TLS_FAILED                # the handshake, for another reason than the next ones
    O_TLS_EXPIRED
    O_TLS_UNKNOWN_CA
    O_TLS_NAME_MISMATCH
    O_TLS_NOT_SPOKEN
    O_HTTP2_NOT_SPOKEN
    O_WEBSOCKET_NOT_SPOKEN      # it speaks nothing but HTTP/2, and does not take extended CONNECT (RFC 8441)
    # the server failed the request
    O_SERVER_CLOSED             # before a byte of an answer
    O_SERVER_RESET              # the same, by a reset
    O_TLS_BROKEN                # the same, by an alert or a damaged record; `detail` as above
    O_STALE                     # the same, on a connection that had served before: most likely it was idle too long
    O_STREAM_REFUSED            # HTTP/2: before any processing; `detail` is the RST_STREAM's code, 0: by GOAWAY
    O_STREAM_RESET              # HTTP/2: the same, after that; `detail` is the code
    O_PING_TIMEOUT
    O_SERVER_TIMEOUT
    O_RESPONSE_INVALID          # `detail` is a Reason
    O_RESPONSE_TOO_LARGE        # its head
    O_RESPONSE_CUT              # after its head
    # the client failed it
    O_CLIENT_LEFT
    O_CLIENT_TIMEOUT
    O_HTTP2_ERROR               # it broke a rule of HTTP/2
    O_HEAD_TOO_LARGE            # for the HTTP/2 server
    O_CALL_TIMEOUT              # the deadline that it gave a gRPC call has passed
    # tunnels that did not end by themselves
    O_TUNNEL_IDLE
    O_TUNNEL_CUT_BY_CLIENT
    O_TUNNEL_CUT_BY_SERVER
    # the gateway ended it
    O_STOPPED
    O_BUG
    O_COUNT

# Why the connection of a client that speaks HTTP/2 was ended; names in outcome.pyx.
cdef enum Abuse:
    ABUSE_PROTOCOL = 0
    ABUSE_RESETS
    ABUSE_HEADERS
    ABUSE_FRAMES
    ABUSE_WINDOWS
    ABUSE_SLOW_HEADERS
    ABUSE_COUNT

# Why a request was tried again; names in RETRY_CAUSES of outcome.pyx.
cdef enum Cause:
    CAUSE_CONNECT = 0
    CAUSE_TLS
    CAUSE_STALE
    CAUSE_RESET
    CAUSE_STATUS
    CAUSE_COUNT

# Why a TLS handshake of a client failed; names in outcome.pyx.
cdef enum Handshake:
    HANDSHAKE_VERSION = 0
    HANDSHAKE_CIPHER
    HANDSHAKE_PROTOCOL
    HANDSHAKE_NAME
    HANDSHAKE_CLIENT_CERTIFICATE
    HANDSHAKE_REFUSED
    HANDSHAKE_PLAIN_HTTP
    HANDSHAKE_NOT_TLS
    HANDSHAKE_TIMEOUT
    HANDSHAKE_CLOSED
    HANDSHAKE_OTHER
    HANDSHAKE_COUNT

cdef enum:
    # What TLS says as one number: an error of verification (X509_STORE_CTX_get_error(3)) as it is, a reason of OpenSSL
    # (ERR_GET_REASON(3)) and this. As an error beside those of the kernel, it is negative.
    TLS_REASON = 1000

cdef enum Side:
    SIDE_NONE = 0
    SIDE_CLIENT
    SIDE_GATEWAY
    SIDE_SERVER

cdef struct OutcomeRow:
    char name[24]
    char side_name[8]           # empty: no side is at fault
    int name_len
    int side_len
    int side
    int status                  # that the gateway answers with when nothing has been sent yet

cdef OutcomeRow *outcome_row(int outcome) noexcept nogil
cdef int outcome_of_errno(int error) noexcept nogil
