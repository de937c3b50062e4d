"""TLS towards clients: certificates, chosen by the server name that a client asks for (RFC 6066 section 3).

OpenSSL is called directly: a connection (conn.pyx) feeds it from its socket and sends the encrypted output, so that
a request allocates no object, and an idle connection keeps no buffer.
"""

import hashlib
import logging
import struct
import time

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from cryptography import x509

from gateway.proxy import tickets
from gateway.rules.gil import yield_gil
from gateway.proxy.openssl cimport (
    BIO, BIO_free, BIO_new_mem_buf, ERR_clear_error, ERR_get_error, ERR_reason_error_string, EVP_CIPHER,
    EVP_CIPHER_CTX, EVP_CIPHER_fetch, EVP_DecryptInit_ex2, EVP_EncryptInit_ex2, EVP_MAC_CTX, EVP_MAC_CTX_set_params,
    EVP_PKEY, EVP_PKEY_CTX, EVP_PKEY_CTX_free, EVP_PKEY_CTX_new_from_name, EVP_PKEY_KEYPAIR, EVP_PKEY_free,
    EVP_PKEY_fromdata, EVP_PKEY_fromdata_init, EVP_PKEY_get0_type_name, EVP_PKEY_todata, OPENSSL_NPN_NEGOTIATED,
    OPENSSL_cleanse, OPENSSL_clear_free, OPENSSL_free, OPENSSL_malloc, OSSL_PARAM, OSSL_PARAM_construct_end,
    OSSL_PARAM_construct_octet_string, OSSL_PARAM_construct_utf8_string, OSSL_PARAM_free, PEM_read_bio_PrivateKey,
    PEM_read_bio_X509, PEM_read_bio_X509_AUX, RAND_bytes, SSL_AD_UNRECOGNIZED_NAME, SSL_CB_HANDSHAKE_DONE,
    SSL_CLIENT_HELLO_SUCCESS, SSL_CTX_add_client_CA, SSL_CTX_free, SSL_CTX_get_app_data, SSL_CTX_new,
    SSL_CTX_set1_cert_store, SSL_CTX_set_alpn_select_cb, SSL_CTX_set_app_data, SSL_CTX_set_cert_cb,
    SSL_CTX_set_client_hello_cb, SSL_CTX_set_cipher_list, SSL_CTX_set_ciphersuites,
    SSL_CTX_set_default_read_buffer_len, SSL_CTX_set_min_proto_version, SSL_CTX_set_mode, SSL_CTX_set_options,
    SSL_CTX_set_read_ahead, SSL_CTX_set_session_cache_mode, SSL_CTX_set_session_id_context,
    SSL_CTX_set_tlsext_servername_arg, SSL_CTX_set_tlsext_servername_callback, SSL_CTX_set_tlsext_status_arg,
    SSL_CTX_set_tlsext_status_cb, SSL_CTX_set_tlsext_ticket_key_evp_cb, SSL_CTX_set_verify, SSL_CTX_use_cert_and_key,
    SSL_MODE_RELEASE_BUFFERS, SSL_OP_CIPHER_SERVER_PREFERENCE, SSL_OP_IGNORE_UNEXPECTED_EOF, SSL_OP_NO_COMPRESSION,
    SSL_OP_NO_RENEGOTIATION, SSL_OP_PRIORITIZE_CHACHA, SSL_SESS_CACHE_OFF, SSL_TLSEXT_ERR_ALERT_FATAL,
    SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_VERIFY_FAIL_IF_NO_PEER_CERT, SSL_VERIFY_PEER, SSL_CIPHER_get_name,
    SSL_client_hello_get0_ext, SSL_get0_peer_certificate, SSL_get_SSL_CTX, SSL_get_certificate,
    SSL_get_current_cipher, SSL_get_ex_data, SSL_get_servername, SSL_get_verify_result, SSL_get_version, SSL_new,
    SSL_select_next_proto, SSL_session_reused, SSL_set_accept_state, SSL_set_ex_data, SSL_set_info_callback,
    SSL_set_tlsext_status_ocsp_resp, SSL_use_cert_and_key, SSL_version, TLS1_1_VERSION, TLS1_2_VERSION,
    TLS1_3_VERSION, TLS1_VERSION, TLSEXT_NAMETYPE_host_name, TLSEXT_TYPE_application_layer_protocol_negotiation,
    TLSEXT_TYPE_server_name, TLS_server_method, X509, X509_STORE_CTX, X509_STORE_add_cert, X509_STORE_free,
    X509_STORE_new, X509_check_private_key, X509_free, X509_verify_cert_error_string, i2d_X509, sk_X509_new_null,
    sk_X509_pop_free, sk_X509_push,
)

VERSIONS = {"1.0": TLS1_VERSION, "1.1": TLS1_1_VERSION, "1.2": TLS1_2_VERSION, "1.3": TLS1_3_VERSION}

cdef extern from "<openssl/ssl.h>":
    int SSL_CTX_set1_groups_list(SSL_CTX *context, const char *groups)

cdef enum:
    READ_BUFFER = 20 * 1024     # ciphertext read at a time: a whole record and the start of the next
    NAME_AT = 5                 # where the name begins in the extension server_name (RFC 6066 section 3)
    NUMBER_HEAD = 32            # bytes before a number of an exported key
    MOST_NUMBERS = 40           # of one key: RSA with ten primes has 33
    PAST = 0                    # index of the previous period's ticket key
    PRESENT = 1

NUMBER = "=24sII"               # format of NUMBER_HEAD for struct

log = logging.getLogger(__name__)

cdef SSL_CTX *trial = NULL
cdef EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, b"AES-256-CBC", NULL)

# Of TLS 1.3 every suite has forward secrecy and authenticated encryption. AES with 128 bits comes first, against
# OpenSSL's order: SHA-384, which comes with 256, makes a handshake cost 8 % more.
cdef bytes SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"  # TLS 1.3
# Up to TLS 1.2, as Mozilla's guidelines have them (6.0 and, for old, 5.8; modern has none), but for finite-field
# Diffie-Hellman, which makes a handshake many times more expensive for the server than for the client (CVE-2002-20001).
cdef bytes INTERMEDIATE = b"ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20"
CIPHERS = {
    "modern": INTERMEDIATE,
    "intermediate": INTERMEDIATE,
    # OpenSSL does not speak the versions before 1.2, which sign with SHA-1, at a higher level of security.
    "old": INTERMEDIATE + (
        b":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
        b":ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
        b":AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA"
        b":@SECLEVEL=0"),
}
# Key exchange, as Mozilla's guidelines 6.0 have it. OpenSSL's default has finite fields up to 8192 bits, too, by which
# a client makes the server compute for milliseconds. Versions before 3.5 do not know the first.
cdef bytes GROUPS = b"X25519:P-256:P-384"
cdef bytes NEW_GROUPS = b"X25519MLKEM768:" + GROUPS
cdef bytes HTTP1 = b"\x08http/1.1\x08http/1.0"
cdef bytes HTTP2 = b"\x02h2" + HTTP1
cdef bytes PROVING = b"\x00\x0b\x0aacme-tls/1"      # all that an authority offers (RFC 8737 section 4)


cdef class Trust:
    """The CA certificates of a PEM file. Raises ValueError if there are none."""

    def __cinit__(self, bytes pem):
        cdef BIO *bio = BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int>PyBytes_GET_SIZE(pem))
        cdef X509 *certificate
        cdef int count = 0
        self.pem = pem
        self.store = X509_STORE_new()
        if bio == NULL or self.store == NULL:
            BIO_free(bio)
            raise MemoryError
        while True:
            certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)
            if certificate == NULL:
                break                   # the end of the file is an error, too
            count += X509_STORE_add_cert(self.store, certificate) == 1
            X509_free(certificate)
        ERR_clear_error()
        BIO_free(bio)
        if count == 0:
            raise ValueError("TLS: no CA certificate in PEM")

    def __dealloc__(self):
        X509_STORE_free(self.store)


cdef class Identity:
    """chain: the certificate in PEM, and those that lead from it to an authority. key: as `exported`.

    names, kind: as certificate.Facts has them. ocsp: a response for it in DER, good up to `ocsp_until` (seconds since
    1970), or None. Both are parsed when a client first asks for them: of ten thousand certificates most are idle, and
    what is parsed takes many times the memory.
    """

    def __cinit__(self, bytes chain, const uint8_t[::1] key, names, str kind, ocsp=None, ocsp_until=0):
        self.names = frozenset(names)
        self.kind = kind
        self.ocsp = ocsp
        self.ocsp_until = ocsp_until
        self.pem = chain
        self.sealed_n = key.shape[0]
        self.sealed = <uint8_t *>OPENSSL_malloc(self.sealed_n + 1)
        if self.sealed == NULL:
            raise MemoryError
        if self.sealed_n:
            memcpy(self.sealed, &key[0], self.sealed_n)

    def __dealloc__(self):
        self._forget()
        OPENSSL_clear_free(self.sealed, self.sealed_n)

    cdef int parse(self) except -1:
        """Have certificate, chain and key. Raises ValueError if they can't be used."""
        cdef BIO *bio
        cdef X509 *one
        if self.certificate != NULL:
            return 0
        bio = BIO_new_mem_buf(PyBytes_AS_STRING(self.pem), <int>PyBytes_GET_SIZE(self.pem))
        self.chain = sk_X509_new_null()
        self.certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)
        while self.certificate != NULL:
            one = PEM_read_bio_X509(bio, NULL, NULL, NULL)
            if one == NULL:
                ERR_clear_error()       # the end of the file is an error, too
                break
            if sk_X509_push(self.chain, one) == 0:
                X509_free(one)
                break
        BIO_free(bio)
        self.key = _imported(self.sealed, self.sealed_n)
        if self.certificate == NULL or self.key == NULL or X509_check_private_key(self.certificate, self.key) != 1:
            self._forget()
            raise ValueError(reason())
        self.pem = None
        OPENSSL_clear_free(self.sealed, self.sealed_n)
        self.sealed = NULL
        return 0

    cdef int _forget(self) except -1:
        X509_free(self.certificate)
        sk_X509_pop_free(self.chain, X509_free)
        EVP_PKEY_free(self.key)
        self.certificate = NULL
        self.chain = NULL
        self.key = NULL
        return 0

    def check(self):
        """Raise ValueError if it can't be used: the key is another's, or OpenSSL holds a certificate for too weak."""
        self.give(_trial())

    cdef int give(self, SSL_CTX *context) except -1:
        """Let a context show it. Raises ValueError."""
        self.parse()
        if SSL_CTX_use_cert_and_key(context, self.certificate, self.key, self.chain, 1) != 1:
            raise ValueError(reason())
        return 0


cdef class ServerContext:
    """The certificates of a frontend: the first, and the others by name (exact first, then wildcard). Of those with one
    name the first of each kind of key (RSA, ECDSA) counts, and OpenSSL takes the one that the client can check.

    However many there are, a handshake looks one up, and there is one context of OpenSSL.

    name: what sessions may be resumed by (RFC 8446 section 2.2): tickets of one frontend are none of another's.
    identities: at least one. bound: digests of those whose change ends all sessions. policy: of CIPHERS.
    min_version: of VERSIONS.
    http2: it is offered, before HTTP/1.1 (RFC 7301). strict: who names none of the certificates is refused.
    secret: what ticket keys are derived from (tickets.py), the same in every worker, so that each can resume the
    sessions of the others.
    clients: the CAs whose clients' certificates are asked for, or None; required: a client without one is refused.
    challenges: the challenges.Challenges that a certificate authority may check by TLS-ALPN-01, or None.
    """

    def __cinit__(self, str name, identities, *, bound, bytes secret, str policy="intermediate", str min_version="1.2",
                  bint http2=False, bint strict=False, Trust clients=None, bint required=False, challenges=None):
        cdef Identity identity
        cdef SSL_CTX *context = SSL_CTX_new(TLS_server_method())
        cdef bytes session = hashlib.sha256(name.encode()).digest()
        if context == NULL:
            raise MemoryError
        self.context = context
        self.secret = secret
        self.strict = strict
        self.challenges = challenges
        self.protocols = HTTP2 if http2 else HTTP1
        asked = [b"clients", b"required" if required else b"optional", clients.pem] if clients is not None else []
        self.identity = tickets.identity(name, [digest.encode() for digest in bound] + asked)
        self.by_name = {}
        self.stapled = {}
        self.first = []
        for identity in identities:
            yield_gil()
            for known in identity.names:
                self._put(self.by_name.setdefault(known.encode(), []), identity)
            self.staples |= identity.ocsp is not None
            if identity.names == (<Identity>identities[0]).names:
                self._put(self.first, identity)
        self._prepare(policy, VERSIONS[min_version], session)
        if clients is not None:
            self._ask(clients, required)
        self.period = tickets.period() - 1      # not this one
        self._turn_keys()

    def __dealloc__(self):
        SSL_CTX_free(self.context)
        OPENSSL_cleanse(self.keys, sizeof(self.keys))

    cdef int _put(self, list those, Identity identity) except -1:
        cdef Identity other
        for other in those:
            if other.kind == identity.kind:
                return 0
        those.append(identity)
        return 0

    cdef SSL *accept(self, TrafficRow *row) except NULL:
        """The state of a new connection, at the beginning of its handshake; this object must outlive it.

        row: counts the handshake when it is complete.
        """
        cdef SSL *ssl = SSL_new(self.context)
        if ssl == NULL:
            ERR_clear_error()
            raise MemoryError
        SSL_set_accept_state(ssl)
        SSL_set_ex_data(ssl, GAUGE, row)
        SSL_set_info_callback(ssl, count_handshake)
        return ssl

    cdef list find(self, bytes name):
        """The certificates for a server name, one of each kind of key; None: there is none."""
        name = name.lower()
        found = self.by_name.get(name)
        if found is None:
            found = self.by_name.get(b"*." + name.partition(b".")[2])
        return found

    cdef int _turn_keys(self) except -1:
        """Have the ticket keys of the present period and of those beside it."""
        cdef int64_t period = tickets.period()
        cdef int i
        cdef bytes key
        if period != self.period:
            for i in range(KEYS):
                key = tickets.key(self.secret, self.identity, period + i - 1)
                memcpy(&self.keys[i], PyBytes_AS_STRING(key), sizeof(TicketKey))
            self.period = period
        return 0

    cdef int _prepare(self, str policy, int version, bytes session) except -1:
        cdef SSL_CTX *context = self.context
        cdef bytes ciphers = CIPHERS[policy]
        SSL_CTX_set_min_proto_version(context, version)
        # A connection that breaks off without a goodbye shows in the framing of its messages.
        SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF
                            | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA)
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS)
        # Sessions live in tickets at the clients; nothing is remembered here.
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF)
        SSL_CTX_set_session_id_context(context, session, 32)
        SSL_CTX_set_read_ahead(context, 1)
        SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER)
        SSL_CTX_set_alpn_select_cb(context, select_protocol, <void *>self)
        if self.challenges is not None:
            SSL_CTX_set_client_hello_cb(context, look_for_challenge, <void *>self)
        SSL_CTX_set_tlsext_servername_callback(context, hear_name)
        SSL_CTX_set_tlsext_servername_arg(context, <void *>self)
        SSL_CTX_set_cert_cb(context, choose, <void *>self)
        if self.staples:
            SSL_CTX_set_tlsext_status_cb(context, staple)
            SSL_CTX_set_tlsext_status_arg(context, <void *>self)
        if SSL_CTX_set1_groups_list(context, NEW_GROUPS) != 1:
            ERR_clear_error()
            if SSL_CTX_set1_groups_list(context, GROUPS) != 1:
                raise ValueError(reason())
        if (SSL_CTX_set_cipher_list(context, ciphers) != 1 or SSL_CTX_set_ciphersuites(context, SUITES) != 1
                or SSL_CTX_set_tlsext_ticket_key_evp_cb(context, use_ticket_key) != 1
                or SSL_CTX_set_app_data(context, <void *>self) != 1):
            raise ValueError(reason())
        return 0

    cdef int _ask(self, Trust clients, bint required) except -1:
        """Ask clients for a certificate."""
        cdef BIO *bio = BIO_new_mem_buf(PyBytes_AS_STRING(clients.pem), <int>PyBytes_GET_SIZE(clients.pem))
        cdef X509 *one
        self.asks = True
        SSL_CTX_set1_cert_store(self.context, clients.store)
        while (one := PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)) != NULL:
            SSL_CTX_add_client_CA(self.context, one)
            X509_free(one)
        ERR_clear_error()
        BIO_free(bio)
        if required:
            SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
        else:
            SSL_CTX_set_verify(self.context, SSL_VERIFY_PEER, note_result)
        return 0


cdef void count_handshake(const SSL *ssl, int where, int _) noexcept:
    """What OpenSSL calls at each step of a handshake: count a complete one."""
    cdef TrafficRow *row
    if where & SSL_CB_HANDSHAKE_DONE:
        row = <TrafficRow *>SSL_get_ex_data(ssl, GAUGE)
        row.handshakes += 1
        row.resumed += SSL_session_reused(ssl)


cdef bytes client_lines(SSL *ssl):
    """Complete header lines that tell a server of the client's certificate; what the client names in it is escaped."""
    cdef X509 *certificate = SSL_get0_peer_certificate(ssl)
    cdef unsigned char *der = NULL
    cdef long result = SSL_get_verify_result(ssl)
    cdef int n
    if certificate == NULL:
        return b"X-Client-Cert-Verify: NONE\r\n"
    n = i2d_X509(certificate, &der)
    if n <= 0:
        raise MemoryError
    found = bytes(der[:n])
    OPENSSL_free(der)
    verdict = "SUCCESS" if result == 0 else f"FAILED:{X509_verify_cert_error_string(result).decode()}"
    lines = [("Verify", verdict), ("Fingerprint", hashlib.sha256(found).hexdigest())]
    try:
        parsed = x509.load_der_x509_certificate(found)
        lines.append(("Subject", parsed.subject.rfc4514_string()))
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        lines.append(("San", ", ".join(_san(name) for name in names)))
    except (ValueError, x509.ExtensionNotFound):
        pass
    return b"".join(f"X-Client-Cert-{name}: {_escaped(text)}\r\n".encode() for name, text in lines)


cdef bint has_valid_certificate(SSL *ssl) noexcept:
    """Whether the client has shown a certificate that its CAs have signed, and that is valid."""
    return SSL_get0_peer_certificate(ssl) != NULL and SSL_get_verify_result(ssl) == 0


cdef int describe(Provenance provenance, int port, SSL *ssl) except -1:
    """Note the client's port, and how TLS is spoken with it; ssl: NULL without TLS."""
    provenance.port = port
    if ssl != NULL:
        provenance.tls_version = SSL_get_version(ssl)
        provenance.tls_cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl))
    return 0


def _san(name):
    """One name of a certificate, with its kind."""
    kinds = {x509.DNSName: "DNS", x509.RFC822Name: "email", x509.UniformResourceIdentifier: "URI", x509.IPAddress: "IP"}
    return f"{kinds.get(type(name), 'other')}:{name.value if type(name) in kinds else ''}"


def _escaped(text):
    """Text of a certificate as a value of a header: printable ASCII, of a length that servers take."""
    return "".join(c if " " <= c <= "~" else f"\\{ord(c):x};" for c in text)[:2000].strip() or "-"


def exported(bytes pem):
    """A private key in PEM as numbers; reading these needs no PEM buffers, which OpenSSL does not wipe.

    Format: the name of its kind in 16 bytes, then for each number: 24 bytes of name, type and length in 4 bytes each,
    and the number, padded to 8 bytes (provider-keymgmt(7), OSSL_PARAM(3)). Raises ValueError.
    """
    cdef BIO *bio = BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int>PyBytes_GET_SIZE(pem))
    cdef EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL)
    cdef OSSL_PARAM *params = NULL
    cdef OSSL_PARAM *one
    BIO_free(bio)
    try:
        if key == NULL or EVP_PKEY_todata(key, EVP_PKEY_KEYPAIR, &params) != 1:
            raise ValueError(reason())
        found = [struct.pack("16s", EVP_PKEY_get0_type_name(key))]
        one = params
        while one.key != NULL:
            number = PyBytes_FromStringAndSize(<char *>one.data, <Py_ssize_t>one.data_size)
            found += [struct.pack(NUMBER, one.key, one.data_type, one.data_size), number]
            found.append(bytes((8 - len(number) % 8) % 8))
            one += 1
        return b"".join(found)
    finally:
        OSSL_PARAM_free(params)
        EVP_PKEY_free(key)


cdef SSL_CTX *_trial() except NULL:
    """A context that only tries certificates: to make one takes as long as to read a key."""
    global trial
    if trial == NULL:
        trial = SSL_CTX_new(TLS_server_method())
        if trial == NULL:
            raise MemoryError
    return trial


cdef EVP_PKEY *_imported(const uint8_t *content, size_t n) noexcept:
    """The key that was `exported`, or NULL. Its numbers are copied from `content` into the key, and nowhere else."""
    cdef OSSL_PARAM params[MOST_NUMBERS + 1]
    cdef EVP_PKEY_CTX *context
    cdef EVP_PKEY *key = NULL
    cdef size_t at = 16, end = n
    cdef int count = 0
    cdef uint32_t kind, length
    while at + NUMBER_HEAD <= end and count < MOST_NUMBERS:
        memcpy(&kind, &content[at + 24], 4)
        memcpy(&length, &content[at + 28], 4)
        if at + NUMBER_HEAD + length > end:
            break
        params[count].key = <const char *>&content[at]
        params[count].data_type = kind
        params[count].data = <void *>&content[at + NUMBER_HEAD] if length else NULL
        params[count].data_size = length
        params[count].return_size = 0
        at += NUMBER_HEAD + (<size_t>length + 7) // 8 * 8
        count += 1
    if at != end:
        return NULL
    params[count] = OSSL_PARAM_construct_end()
    context = EVP_PKEY_CTX_new_from_name(NULL, <const char *>&content[0], NULL)
    if context != NULL and EVP_PKEY_fromdata_init(context) == 1:
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, params)
    EVP_PKEY_CTX_free(context)
    return key


cdef str reason():
    cdef const char *text = ERR_reason_error_string(ERR_get_error())
    ERR_clear_error()
    return "TLS: " + (text.decode() if text != NULL else "the certificate or its key can't be used")


cdef int no_password(char *to, int n, int writing, void *data) noexcept nogil:
    """Replaces OpenSSL's prompt on the terminal."""
    return -1


cdef int look_for_challenge(SSL *ssl, int *alert, void *owner) noexcept:
    """SSL_CTX_set_client_hello_cb(3): a certificate authority that checks a challenge by TLS-ALPN-01 offers the
    protocol of that alone, and names what it checks (RFC 8737 section 3). Other handshakes are as they would be.
    """
    cdef ServerContext context = <ServerContext>owner
    cdef const unsigned char *p
    cdef size_t n
    context.proof = None
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p, &n) == 1
            and n == <size_t>len(PROVING) and memcmp(p, PyBytes_AS_STRING(PROVING), n) == 0
            and SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) == 1 and n > NAME_AT):
        context.proof = context.challenges.certificate(p[NAME_AT:n])
    return SSL_CLIENT_HELLO_SUCCESS


cdef int hear_name(SSL *ssl, int *alert, void *owner) noexcept:
    """The client has named the server it wants, or has not."""
    cdef const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    cdef ServerContext context = <ServerContext>owner
    if context.strict and context.proof is None and (name == NULL or context.find(<bytes>name) is None):
        alert[0] = SSL_AD_UNRECOGNIZED_NAME
        return SSL_TLSEXT_ERR_ALERT_FATAL
    return SSL_TLSEXT_ERR_NOACK if name == NULL else SSL_TLSEXT_ERR_OK


cdef int choose(SSL *ssl, void *owner) noexcept:
    """SSL_CTX_set_cert_cb(3): the certificates among which OpenSSL chooses by what the client can check."""
    cdef const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    cdef ServerContext context = <ServerContext>owner
    cdef Identity identity
    cdef list found = None
    if context.proof is not None:
        found = [context.proof]
    elif name != NULL:
        found = context.find(<bytes>name)
    if found is None:
        found = context.first
    for identity in found:
        try:
            identity.parse()
        except ValueError as error:
            log.error("cannot show the certificate of %s: %s", ", ".join(identity.names), error)
            return 0
        if identity.ocsp is not None:
            context.stapled[<size_t>identity.certificate] = identity
        if SSL_use_cert_and_key(ssl, identity.certificate, identity.key, identity.chain, 1) != 1:
            return 0
    return 1


cdef int staple(SSL *ssl, void *owner) noexcept:
    """SSL_CTX_set_tlsext_status_cb(3): the client asks whether the certificate was revoked (RFC 6066 section 8)."""
    cdef Identity identity = (<ServerContext>owner).stapled.get(<size_t>SSL_get_certificate(ssl))
    cdef void *copy
    cdef size_t n
    if identity is None or identity.ocsp_until < time.time():
        return SSL_TLSEXT_ERR_NOACK
    n = PyBytes_GET_SIZE(identity.ocsp)
    copy = OPENSSL_malloc(n)
    if copy == NULL:
        return SSL_TLSEXT_ERR_NOACK
    memcpy(copy, PyBytes_AS_STRING(identity.ocsp), n)
    SSL_set_tlsext_status_ocsp_resp(ssl, <unsigned char *>copy, <long>n)
    return SSL_TLSEXT_ERR_OK


cdef int note_result(int good, X509_STORE_CTX *store) noexcept:
    """SSL_CTX_set_verify(3): servers learn what came of it, and decide."""
    return 1


cdef int use_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                        int encrypting) noexcept:
    """SSL_CTX_set_tlsext_ticket_key_cb(3): 1: continue; 2: continue, and issue a new ticket; 0: not our ticket."""
    cdef ServerContext context = <ServerContext>SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl))
    cdef TicketKey *key = NULL
    cdef OSSL_PARAM params[3]
    cdef int i
    try:
        context._turn_keys()
    except Exception:
        return -1
    if encrypting:
        key = &context.keys[PRESENT]
        memcpy(name, key.name, sizeof(key.name))
        if RAND_bytes(iv, 16) != 1 or EVP_EncryptInit_ex2(cipher, aes, key.cipher, iv, NULL) != 1:
            return -1
    else:
        for i in range(KEYS):
            if memcmp(name, context.keys[i].name, sizeof(key.name)) == 0:
                key = &context.keys[i]
                break
        if key == NULL:
            return 0
        if EVP_DecryptInit_ex2(cipher, aes, key.cipher, iv, NULL) != 1:
            return -1
    params[0] = OSSL_PARAM_construct_octet_string(b"key", key.mac, sizeof(key.mac))
    params[1] = OSSL_PARAM_construct_utf8_string(b"digest", b"SHA256", 0)
    params[2] = OSSL_PARAM_construct_end()
    if EVP_MAC_CTX_set_params(mac, params) != 1:
        return -1
    # In TLS 1.3 a client uses a ticket once (RFC 8446 appendix C.4), so it gets a new one each time.
    return 2 if key == &context.keys[PAST] or SSL_version(ssl) == TLS1_3_VERSION else 1


cdef int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *offered,
                         unsigned int offered_n, void *owner) noexcept:
    """The client has sent its protocols: select one, or fail the handshake (RFC 7301 section 3.2)."""
    cdef ServerContext context = <ServerContext>owner
    cdef bytes ours = context.protocols
    if context.proof is not None:
        out[0] = offered + 1
        n[0] = offered[0]
        return SSL_TLSEXT_ERR_OK
    if SSL_select_next_proto(<unsigned char **>out, n, ours, <unsigned int>PyBytes_GET_SIZE(ours), offered,
                             offered_n) != OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_ALERT_FATAL
    return SSL_TLSEXT_ERR_OK
