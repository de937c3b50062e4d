"""TLS to servers: verification, server names and resumption of sessions.

The handshake itself is a connection's (Conn.handshake, by ServerConn before it is handed out), so that it blocks a
worker as little as everything else, and `timeouts: connect` ends it.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from ipaddress import ip_address

from gateway.outcome cimport TLS_REASON
from gateway.proxy.openssl cimport (
    ERR_LIB_SSL, ERR_PACK, ERR_clear_error, ERR_reason_error_string, SSL_CTX_free, SSL_CTX_get0_param, SSL_CTX_new,
    SSL_CTX_sess_set_new_cb, SSL_CTX_set1_cert_store, SSL_CTX_set_alpn_protos, SSL_CTX_set_default_read_buffer_len,
    SSL_CTX_set_min_proto_version, SSL_CTX_set_mode, SSL_CTX_set_options, SSL_CTX_set_read_ahead,
    SSL_CTX_set_session_cache_mode, SSL_CTX_set_verify, SSL_MODE_RELEASE_BUFFERS, SSL_OP_NO_COMPRESSION,
    SSL_OP_NO_RENEGOTIATION, SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL, SSL_SESSION_free,
    SSL_SESSION_is_resumable, SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_free, SSL_get0_param, SSL_get_ex_data, SSL_new,
    SSL_set1_host, SSL_set_connect_state, SSL_set_ex_data, SSL_set_session, SSL_set_tlsext_host_name,
    TLS_client_method, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
    X509_V_FLAG_PARTIAL_CHAIN, X509_VERIFY_PARAM_set1_ip_asc, X509_VERIFY_PARAM_set_flags,
    X509_VERIFY_PARAM_set_hostflags, X509_verify_cert_error_string,
)
from gateway.proxy.tls cimport Identity, Trust, reason

from gateway.proxy.tls import VERSIONS

cdef enum:
    READ_BUFFER = 20 * 1024     # ciphertext read at a time: a whole record and the beginning of the next
    OWNER = 0                   # the application's own index of an SSL's data

cdef bytes HTTP1 = b"\x08http/1.1"
cdef bytes HTTP2 = b"\x02h2\x08http/1.1"
# With no name to look for, OpenSSL would take a certificate for any.
cdef bytes NAMELESS = b"nameless.invalid"


cdef class ClientContext:
    """trust: who may have signed the servers' certificates; None: they are not verified.

    min_version: "1.2" or "1.3". identity: to show to servers that ask for it, or None. http2: it is offered (ALPN).
    Raises ValueError.
    """

    def __cinit__(self, Trust trust, str min_version, Identity identity, bint http2=False):
        cdef bytes protocols = HTTP2 if http2 else HTTP1
        self.context = SSL_CTX_new(TLS_client_method())
        if self.context == NULL:
            raise MemoryError
        self.verify = trust is not None
        SSL_CTX_set_min_proto_version(self.context, VERSIONS[min_version])
        SSL_CTX_set_options(self.context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION)
        SSL_CTX_set_mode(self.context, SSL_MODE_RELEASE_BUFFERS)
        SSL_CTX_set_read_ahead(self.context, 1)
        SSL_CTX_set_default_read_buffer_len(self.context, READ_BUFFER)
        SSL_CTX_set_session_cache_mode(self.context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL)
        SSL_CTX_sess_set_new_cb(self.context, keep_session)
        SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER if self.verify else SSL_VERIFY_NONE, NULL)
        if SSL_CTX_set_alpn_protos(self.context, protocols, <unsigned int>PyBytes_GET_SIZE(protocols)) != 0:
            raise ValueError(reason())
        if self.verify:
            SSL_CTX_set1_cert_store(self.context, trust.store)
            # A certificate of the file is trusted whether or not the one that signed it is there.
            X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(self.context), X509_V_FLAG_PARTIAL_CHAIN)
            # RFC 9525 sections 2 and 6.3: names are those in subjectAltName, "*" is a whole label.
            X509_VERIFY_PARAM_set_hostflags(
                SSL_CTX_get0_param(self.context),
                X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
        if identity is not None:
            identity.give(self.context)

    def __dealloc__(self):
        SSL_CTX_free(self.context)


cdef class Peer:
    """name: what the server's certificate must be for, and what it is asked for; "": that is not known."""

    def __init__(self, ClientContext context, str name):
        self.context = context
        self.name = name.encode()
        try:
            ip_address(name)
            self.numeric = True
        except ValueError:
            self.numeric = False

    def __dealloc__(self):
        SSL_SESSION_free(self.session)

    cdef SSL *open(self) except NULL:
        """The state of a new connection, at the beginning of its handshake; this object must outlive it."""
        cdef SSL *ssl = SSL_new(self.context.context)
        cdef const char *name = PyBytes_AS_STRING(self.name or NAMELESS)
        cdef bint good
        if ssl == NULL:
            ERR_clear_error()
            raise MemoryError
        SSL_set_connect_state(ssl)
        good = SSL_set_ex_data(ssl, OWNER, <void *>self) == 1
        # RFC 6066 section 3: no addresses in SNI.
        if good and self.name and not self.numeric:
            good = SSL_set_tlsext_host_name(ssl, name) == 1
        if good and self.context.verify:
            if self.numeric:
                good = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
            else:
                good = SSL_set1_host(ssl, name) == 1
        if good and self.session != NULL and SSL_SESSION_is_resumable(self.session):
            SSL_set_session(ssl, self.session)
        ERR_clear_error()
        if not good:
            SSL_free(ssl)
            raise MemoryError
        return ssl


cdef int keep_session(SSL *ssl, SSL_SESSION *session) noexcept:
    """SSL_CTX_sess_set_new_cb(3): a session that a later connection may go on with; 1: it is ours now."""
    cdef Peer peer = <Peer>SSL_get_ex_data(ssl, OWNER)
    SSL_SESSION_free(peer.session)
    peer.session = session
    return 1


def text_of(int error):
    """What an error of TLS means, as OpenSSL has it; see TLS_REASON."""
    cdef const char *text
    if error < TLS_REASON:
        return X509_verify_cert_error_string(error).decode()
    if error == TLS_REASON:
        return "the server closed the connection"
    text = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0, error - TLS_REASON))
    return text.decode() if text != NULL else f"OpenSSL's reason {error - TLS_REASON}"
