"""TLS towards clients: certificates, chosen by the server name that a client asks for (RFC 6066 section 3).

OpenSSL is called directly: a connection (conn.pyx) feeds it from its socket and sends the encrypted output, so that
a request allocates no object, and an idle connection keeps no buffer.
"""

import hashlib
import struct

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from gateway.proxy import tickets
from gateway.proxy.openssl cimport (
    BIO, BIO_free, BIO_new_mem_buf, ERR_clear_error, ERR_get_error, ERR_reason_error_string, EVP_CIPHER,
    EVP_CIPHER_CTX, EVP_CIPHER_fetch, EVP_DecryptInit_ex2, EVP_EncryptInit_ex2, EVP_MAC_CTX, EVP_MAC_CTX_set_params,
    EVP_PKEY, EVP_PKEY_CTX, EVP_PKEY_CTX_free, EVP_PKEY_CTX_new_from_name, EVP_PKEY_KEYPAIR, EVP_PKEY_free,
    EVP_PKEY_fromdata, EVP_PKEY_fromdata_init, EVP_PKEY_get0_type_name, EVP_PKEY_todata, OPENSSL_NPN_NEGOTIATED,
    OPENSSL_cleanse, OSSL_PARAM, OSSL_PARAM_construct_end, OSSL_PARAM_construct_octet_string,
    OSSL_PARAM_construct_utf8_string, OSSL_PARAM_free, PEM_read_bio_PrivateKey, PEM_read_bio_X509,
    PEM_read_bio_X509_AUX, RAND_bytes, SSL_CTX_add0_chain_cert, SSL_CTX_check_private_key, SSL_CTX_free,
    SSL_CTX_get_app_data, SSL_CTX_new, SSL_CTX_set_alpn_select_cb, SSL_CTX_set_app_data, SSL_CTX_set_cipher_list,
    SSL_CTX_set_ciphersuites, SSL_CTX_set_default_read_buffer_len, SSL_CTX_set_min_proto_version, SSL_CTX_set_mode,
    SSL_CTX_set_options, SSL_CTX_set_read_ahead, SSL_CTX_set_session_cache_mode, SSL_CTX_set_session_id_context,
    SSL_CTX_set_tlsext_servername_arg, SSL_CTX_set_tlsext_servername_callback, SSL_CTX_set_tlsext_ticket_key_evp_cb,
    SSL_CTX_use_PrivateKey, SSL_CTX_use_certificate, SSL_MODE_RELEASE_BUFFERS, SSL_OP_CIPHER_SERVER_PREFERENCE,
    SSL_OP_IGNORE_UNEXPECTED_EOF, SSL_OP_NO_COMPRESSION, SSL_OP_NO_RENEGOTIATION, SSL_OP_PRIORITIZE_CHACHA,
    SSL_SESS_CACHE_OFF, SSL_TLSEXT_ERR_ALERT_FATAL, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_get_SSL_CTX,
    SSL_get_servername, SSL_new, SSL_select_next_proto, SSL_set_SSL_CTX, SSL_set_accept_state, SSL_version,
    TLS1_2_VERSION, TLS1_3_VERSION, TLSEXT_NAMETYPE_host_name, TLS_server_method, X509, X509_free,
)

VERSIONS = {"1.2": TLS1_2_VERSION, "1.3": TLS1_3_VERSION}

cdef enum:
    READ_BUFFER = 20 * 1024     # ciphertext read at a time: a whole record and the start of the next
    NUMBER_HEAD = 32            # bytes before a number of an exported key
    MOST_NUMBERS = 40           # of one key: RSA with ten primes has 33
    PAST = 0                    # index of the previous period's ticket key
    PRESENT = 1

NUMBER = "=24sII"               # format of NUMBER_HEAD for struct

cdef EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, b"AES-256-CBC", NULL)

# Forward secrecy and authenticated encryption only (RFC 9325 section 4.2); all suites of TLS 1.3 have both. AES-128
# comes first, unlike OpenSSL's default: SHA-384, which AES-256 requires, makes a handshake 8 % more expensive.
cdef bytes SUITES = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"  # TLS 1.3
cdef bytes CIPHERS = b"ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20"  # TLS 1.2
cdef bytes HTTP1 = b"\x08http/1.1\x08http/1.0"
cdef bytes HTTP2 = b"\x02h2" + HTTP1


def names_of(pem: bytes) -> tuple[str, ...]:
    """The DNS names of a certificate, in lower case; the common name is used only if there are no others."""
    found = x509.load_pem_x509_certificate(pem)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        common = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(str(name.value).lower() for name in common)


def kind_of(pem: bytes) -> str:
    """The kind of a certificate's key, such as "RSA"; a unique kind if it cannot be parsed here."""
    try:
        return type(x509.load_pem_x509_certificate(pem).public_key()).__name__
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"


cdef class ServerContext:
    """The certificates of a frontend: the first one, and the others by name (exact first, then wildcard). Certificates
    with the same names and keys of different kinds (RSA, ECDSA) are one entry.

    name: context of session resumption (RFC 8446 section 2.2): tickets of one frontend are not valid for another.
    pairs: (certificate chain in PEM, private key as `exported`), at least one. min_version: "1.2" or "1.3".
    http2: offer it, before HTTP/1.1 (RFC 7301).
    secret: ticket keys are derived from it (tickets.py); the same in every worker, so that each can resume the
    sessions of the others. Raises ValueError for a certificate or key that cannot be used.
    """

    def __cinit__(self, str name, pairs, str min_version, bytes secret, bint http2=False):
        cdef int i
        cdef bytes identity = hashlib.sha256(name.encode()).digest()
        cdef dict shared = {}           # (names, kind of key) and names -> the context
        self.secret = secret
        self.protocols = HTTP2 if http2 else HTTP1
        self.identity = tickets.identity(name, [cert for cert, _ in pairs])
        self.contexts = <SSL_CTX **>calloc(len(pairs), sizeof(SSL_CTX *))
        if self.contexts == NULL:
            raise MemoryError
        self.by_name = {}
        for cert, key in pairs:
            names = frozenset(names_of(cert))
            kind = kind_of(cert)
            if names in shared and (names, kind) not in shared:
                # The same name with another kind of key: OpenSSL picks the one that the client can verify.
                i = shared[names]
                use_certificates(self.contexts[i], cert)
                use_key(self.contexts[i], key)
            else:
                i = self.count
                self._add(cert, key, VERSIONS[min_version])
                SSL_CTX_set_session_id_context(self.contexts[i], identity, 32)
                shared.setdefault(names, i)
            shared[names, kind] = i
            for known in names:
                self.by_name.setdefault(known.encode(), i)
        SSL_CTX_set_tlsext_servername_callback(self.contexts[0], choose)
        SSL_CTX_set_tlsext_servername_arg(self.contexts[0], <void *>self)
        self.period = tickets.period() - 1      # forces the first derivation of keys
        self._turn_keys()

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            SSL_CTX_free(self.contexts[i])
        free(self.contexts)
        OPENSSL_cleanse(self.keys, sizeof(self.keys))

    cdef SSL *accept(self) except NULL:
        """The TLS state of a new connection, before its handshake; this object must outlive it."""
        cdef SSL *ssl = SSL_new(self.contexts[0])
        if ssl == NULL:
            ERR_clear_error()
            raise MemoryError
        SSL_set_accept_state(ssl)
        return ssl

    cdef int index(self, bytes name) except -1:
        """The index of the certificate for a server name; 0, the first, if there is none."""
        name = name.lower()
        found = self.by_name.get(name)
        if found is None:
            found = self.by_name.get(b"*." + name.partition(b".")[2], 0)
        return found

    cdef int _turn_keys(self) except -1:
        """Derive the ticket keys of the current period and of the adjacent ones."""
        cdef int64_t period = tickets.period()
        cdef int i
        cdef bytes key
        if period != self.period:
            for i in range(KEYS):
                key = tickets.key(self.secret, self.identity, period + i - 1)
                memcpy(&self.keys[i], PyBytes_AS_STRING(key), sizeof(TicketKey))
            self.period = period
        return 0

    cdef int _add(self, bytes cert, const uint8_t[::1] key, int version) except -1:
        cdef SSL_CTX *context = SSL_CTX_new(TLS_server_method())
        if context == NULL:
            raise MemoryError
        self.contexts[self.count] = context
        self.count += 1
        SSL_CTX_set_min_proto_version(context, version)
        # The framing of messages detects a connection that ends without close_notify.
        SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF
                            | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA)
        SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS)
        # Sessions are in the clients' tickets; nothing is cached here.
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF)
        SSL_CTX_set_read_ahead(context, 1)
        SSL_CTX_set_default_read_buffer_len(context, READ_BUFFER)
        SSL_CTX_set_alpn_select_cb(context, select_protocol, <void *>self.protocols)
        if (SSL_CTX_set_cipher_list(context, CIPHERS) != 1 or SSL_CTX_set_ciphersuites(context, SUITES) != 1
                or SSL_CTX_set_tlsext_ticket_key_evp_cb(context, use_ticket_key) != 1
                or SSL_CTX_set_app_data(context, <void *>self) != 1):
            raise ValueError(reason())
        use_certificates(context, cert)
        use_key(context, key)
        return 0


cdef int use_certificates(SSL_CTX *context, bytes pem) except -1:
    """Load the certificate and its chain of intermediate certificates."""
    cdef BIO *bio = BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int>PyBytes_GET_SIZE(pem))
    cdef X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL)
    cdef int done = certificate != NULL and SSL_CTX_use_certificate(context, certificate) == 1
    X509_free(certificate)
    while done:
        certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)
        if certificate == NULL:
            ERR_clear_error()           # the end of the file leaves an error, too
            break
        if SSL_CTX_add0_chain_cert(context, certificate) != 1:
            X509_free(certificate)
            done = False
    BIO_free(bio)
    if not done:
        raise ValueError(reason())
    return 0


cdef int use_key(SSL_CTX *context, const uint8_t[::1] content) except -1:
    cdef EVP_PKEY *key = _imported(content)
    cdef int done = (key != NULL and SSL_CTX_use_PrivateKey(context, key) == 1
                     and SSL_CTX_check_private_key(context) == 1)
    EVP_PKEY_free(key)
    if not done:
        raise ValueError(reason())
    return 0


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


cdef EVP_PKEY *_imported(const uint8_t[::1] content) except? NULL:
    """The key that was `exported`, or NULL. Its numbers are copied from `content` into the key, and nowhere else."""
    cdef OSSL_PARAM params[MOST_NUMBERS + 1]
    cdef EVP_PKEY_CTX *context
    cdef EVP_PKEY *key = NULL
    cdef Py_ssize_t at = 16, end = content.shape[0]
    cdef int n = 0
    cdef uint32_t kind, length
    while at + NUMBER_HEAD <= end and n < MOST_NUMBERS:
        memcpy(&kind, &content[at + 24], 4)
        memcpy(&length, &content[at + 28], 4)
        if at + NUMBER_HEAD + <Py_ssize_t>length > end:
            break
        params[n].key = <const char *>&content[at]
        params[n].data_type = kind
        params[n].data = <void *>&content[at + NUMBER_HEAD] if length else NULL
        params[n].data_size = length
        params[n].return_size = 0
        at += NUMBER_HEAD + (<Py_ssize_t>length + 7) // 8 * 8
        n += 1
    if at != end:
        return NULL
    params[n] = OSSL_PARAM_construct_end()
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


cdef int choose(SSL *ssl, int *alert, void *owner) noexcept:
    """The client has sent the server name."""
    cdef const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    cdef ServerContext context = <ServerContext>owner
    cdef int i
    if name == NULL:
        return SSL_TLSEXT_ERR_NOACK
    i = context.index(<bytes>name)
    if i > 0:
        SSL_set_SSL_CTX(ssl, context.contexts[i])
    return SSL_TLSEXT_ERR_OK


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
                         unsigned int offered_n, void *protocols) noexcept:
    """The client has sent its protocols: select one, or fail the handshake (RFC 7301 section 3.2)."""
    cdef bytes ours = <bytes>protocols
    if SSL_select_next_proto(<unsigned char **>out, n, ours, <unsigned int>PyBytes_GET_SIZE(ours), offered,
                             offered_n) != OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_ALERT_FATAL
    return SSL_TLSEXT_ERR_OK
