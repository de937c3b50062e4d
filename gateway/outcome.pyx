"""How a request ends: one named outcome, and the side at fault; for the access log, the error log and the metrics."""

from libc.errno cimport (
    EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, EMFILE, ENETUNREACH, ENFILE, ENOENT, EPROTO, EPROTONOSUPPORT, ETIMEDOUT,
)
from libc.string cimport memcpy

cdef extern from "<openssl/x509_vfy.h>" nogil:
    enum:
        X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
        X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_CERT_UNTRUSTED, X509_V_ERR_CERT_NOT_YET_VALID
        X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH

cdef extern from "<openssl/sslerr.h>" nogil:
    enum:
        SSL_R_WRONG_VERSION_NUMBER

TABLE = (
    # outcome, name, side, status, what it means
    (O_NONE, "none", SIDE_NONE, 0, "The request has not ended."),
    (O_OK, "ok", SIDE_NONE, 200, "The server's response was passed on completely, or a tunnel ended normally."),
    (O_RETRIED, "retried", SIDE_NONE, 200, "As ok, after a first try had failed."),
    (O_ANSWERED, "answered", SIDE_NONE, 200, "A route answered: respond, redirect, or a site to go to."),
    (O_NO_ROUTE, "no_route", SIDE_CLIENT, 404, "No route of the site file is for the request."),
    (O_REFUSED, "refused", SIDE_CLIENT, 400, "The request is malformed or over a limit; the error page says which."),
    (O_NOT_ADMITTED, "not_admitted", SIDE_CLIENT, 403, "The request's class is never admitted."),
    (O_RATE_LIMITED, "rate_limited", SIDE_CLIENT, 429, "The client is over the rate of a class or route."),
    (O_CLASS_FULL, "class_full", SIDE_GATEWAY, 503, "The request's class is at its concurrency, without a queue."),
    (O_WAITING, "waiting", SIDE_NONE, 503, "The client waits for a session: it got the waiting page."),
    (O_SESSIONS_FULL, "sessions_full", SIDE_GATEWAY, 503, "Neither a session nor a place in the queue was free."),
    (O_QUEUE_FULL, "queue_full", SIDE_GATEWAY, 503, "Every server is at its limit, and the queue is full."),
    (O_QUEUE_TIMEOUT, "queue_timeout", SIDE_GATEWAY, 503, "No server had room within queue.timeout."),
    (O_SHED, "shed", SIDE_GATEWAY, 503, "It waited too long for target_delay, or gave way in a full queue."),
    (O_NO_SERVER, "no_server", SIDE_GATEWAY, 503, "No server of the backend is up, ready and below its limit."),
    (O_CONNECT_REFUSED, "connect_refused", SIDE_SERVER, 502, "The server refused the connection."),
    (O_CONNECT_TIMEOUT, "connect_timeout", SIDE_SERVER, 502, "The server did not accept within timeouts.connect."),
    (O_CONNECT_UNREACHABLE, "connect_unreachable", SIDE_SERVER, 502, "No route leads to the server."),
    (O_CONNECT_FAILED, "connect_failed", SIDE_SERVER, 502, "The connection could not be made for another reason."),
    (O_NO_DESCRIPTOR, "no_descriptor", SIDE_GATEWAY, 503, "The gateway has no descriptor or port left to connect."),
    (O_TLS_FAILED, "tls_failed", SIDE_SERVER, 502, "The TLS handshake with the server failed."),
    (O_TLS_EXPIRED, "tls_expired", SIDE_SERVER, 502, "The server's certificate has expired, or is not valid yet."),
    (O_TLS_UNKNOWN_CA, "tls_unknown_ca", SIDE_SERVER, 502, "No trusted CA has signed the server's certificate."),
    (O_TLS_NAME_MISMATCH, "tls_name_mismatch", SIDE_SERVER, 502, "The server's certificate is for another name."),
    (O_TLS_NOT_SPOKEN, "tls_not_spoken", SIDE_SERVER, 502, "The server does not speak TLS at this port."),
    (O_HTTP2_NOT_SPOKEN, "http2_not_spoken", SIDE_SERVER, 502, "The server does not speak HTTP/2 at this port."),
    (O_WEBSOCKET_NOT_SPOKEN, "websocket_not_spoken", SIDE_GATEWAY, 502,
     "The server speaks HTTP/2 only, and takes no WebSockets over it."),
    (O_SERVER_CLOSED, "server_closed", SIDE_SERVER, 502, "The server closed the connection before its answer."),
    (O_SERVER_RESET, "server_reset", SIDE_SERVER, 502, "The server reset the connection before its answer."),
    (O_TLS_BROKEN, "tls_broken", SIDE_SERVER, 502, "The server ended TLS with an alert, or a record was damaged."),
    (O_STALE, "stale_connection", SIDE_SERVER, 502, "A kept connection was closed as the request was sent."),
    (O_STREAM_REFUSED, "stream_refused", SIDE_SERVER, 503, "The server refused the stream before it processed it."),
    (O_STREAM_RESET, "stream_reset", SIDE_SERVER, 502, "The server reset the stream before its answer."),
    (O_PING_TIMEOUT, "ping_timeout", SIDE_SERVER, 504, "A PING on the server's HTTP/2 connection got no answer."),
    (O_SERVER_TIMEOUT, "server_timeout", SIDE_SERVER, 504, "The server was silent for timeouts.response."),
    (O_RESPONSE_INVALID, "response_invalid", SIDE_SERVER, 502, "The answer is not valid HTTP."),
    (O_RESPONSE_TOO_LARGE, "response_too_large", SIDE_SERVER, 502, "The head of the answer is over 64 KiB."),
    (O_RESPONSE_CUT, "response_cut", SIDE_SERVER, 502, "The answer broke off after its head."),
    (O_CLIENT_LEFT, "client_left", SIDE_CLIENT, 499, "The client closed or reset its connection."),
    (O_CLIENT_TIMEOUT, "client_timeout", SIDE_CLIENT, 408, "The client was too slow to send or to read."),
    (O_HTTP2_ERROR, "http2_error", SIDE_CLIENT, 0, "The client broke a rule of HTTP/2 on its stream or connection."),
    (O_HEAD_TOO_LARGE, "head_too_large", SIDE_CLIENT, 431, "The head is larger than the HTTP/2 server says it takes."),
    (O_CALL_TIMEOUT, "call_timeout", SIDE_NONE, 504, "The deadline of a gRPC call has passed (grpc-timeout)."),
    (O_TUNNEL_IDLE, "tunnel_idle", SIDE_NONE, 0, "Nothing passed through the tunnel for timeouts.tunnel."),
    (O_TUNNEL_CUT_BY_CLIENT, "tunnel_cut_by_client", SIDE_CLIENT, 0, "The client reset the tunnel."),
    (O_TUNNEL_CUT_BY_SERVER, "tunnel_cut_by_server", SIDE_SERVER, 0, "The server reset the tunnel."),
    (O_STOPPED, "stopped", SIDE_GATEWAY, 0, "The worker ended before the request did: drain was over."),
    (O_BUG, "gateway_error", SIDE_GATEWAY, 0, "A fault of the gateway; the log has a traceback."),
)
# In the order of Cause.
RETRY_CAUSES = ("connect", "tls", "stale", "reset", "status")
assert len(RETRY_CAUSES) == CAUSE_COUNT

ABUSES = (
    ("protocol_error", "its frames break the rules of HTTP/2"),
    ("reset_flood", "it has streams reset faster than they are answered"),
    ("header_flood", "its header blocks are far over the limits"),
    ("frame_flood", "it sends frames that ask for nothing: PING, SETTINGS, PRIORITY, empty DATA and the like"),
    ("small_windows", "its windows let in a few bytes at a time"),
    ("slow_headers", "a header block took longer than header_timeout"),
)
"""(name, meaning) by Abuse."""
HANDSHAKES = (
    ("version", "it speaks no version of TLS that is allowed here"),
    ("cipher", "it has no cipher, group or signature in common with this frontend"),
    ("protocol", "it wants another protocol (ALPN)"),
    ("name", "it names a server that has no certificate here"),
    ("client_certificate", "it has no certificate that is valid here"),
    ("refused", "it does not accept the certificate that it was shown"),
    ("plain_http", "it speaks HTTP without TLS"),
    ("not_tls", "it does not speak TLS"),
    ("timeout", "it took longer than header_timeout"),
    ("closed", "it closed the connection"),
    ("other", "OpenSSL refused its messages"),
)
"""(name, meaning) by Handshake."""
SIDES = ("-", "client", "gateway", "server")

OUTCOMES = tuple((name, SIDES[side], meaning) for _, name, side, _, meaning in TABLE)
"""(name, side, meaning) by outcome, as the Board counts them."""

cdef OutcomeRow[O_COUNT] _rows


cdef int _fill() except -1:
    cdef bytes text
    cdef int i
    for i, (outcome, name, side, status, _) in enumerate(TABLE):
        assert outcome == i, name
        text = name.encode()
        _rows[i].name_len = len(text)
        memcpy(_rows[i].name, <const char *>text, len(text))
        _rows[i].side = side
        if side != SIDE_NONE:
            text = SIDES[side].encode()
            _rows[i].side_len = len(text)
            memcpy(_rows[i].side_name, <const char *>text, len(text))
        _rows[i].status = status
    assert len(TABLE) == O_COUNT
    return 0


_fill()


cdef OutcomeRow *outcome_row(int outcome) noexcept nogil:
    return &_rows[outcome]


cdef int outcome_of_errno(int error) noexcept nogil:
    """Why a connection could not be made (connect(2)); a negative error is one of TLS, as in tls_to_servers.pyx."""
    if error < 0:
        return _outcome_of_tls(-error)
    if error == ECONNREFUSED or error == ENOENT:
        return O_CONNECT_REFUSED
    if error == ETIMEDOUT:
        return O_CONNECT_TIMEOUT
    if error == EHOSTUNREACH or error == ENETUNREACH:
        return O_CONNECT_UNREACHABLE
    if error == EMFILE or error == ENFILE or error == EADDRNOTAVAIL:
        return O_NO_DESCRIPTOR
    if error == EPROTO:
        return O_HTTP2_NOT_SPOKEN
    if error == EPROTONOSUPPORT:
        return O_WEBSOCKET_NOT_SPOKEN
    return O_CONNECT_FAILED


def tls_failure(int error):
    """The name of the outcome that an error of verification is, by the number that OpenSSL gives it."""
    return TABLE[_outcome_of_tls(error)][1]


cdef int _outcome_of_tls(int error) noexcept nogil:
    if error == X509_V_ERR_CERT_HAS_EXPIRED or error == X509_V_ERR_CERT_NOT_YET_VALID:
        return O_TLS_EXPIRED
    if error == X509_V_ERR_HOSTNAME_MISMATCH or error == X509_V_ERR_IP_ADDRESS_MISMATCH:
        return O_TLS_NAME_MISMATCH
    if (error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT or error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            or error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE or error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
            or error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT or error == X509_V_ERR_CERT_UNTRUSTED):
        return O_TLS_UNKNOWN_CA
    if error == TLS_REASON + SSL_R_WRONG_VERSION_NUMBER:    # what a record of TLS cannot begin with
        return O_TLS_NOT_SPOKEN
    return O_TLS_FAILED
