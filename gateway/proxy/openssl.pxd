"""The part of OpenSSL's API (3.0 and newer) in use; see its manual pages."""

cdef extern from "<openssl/ssl.h>":
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_CIPHER:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    ctypedef struct X509:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct STACK_OF_X509 "STACK_OF(X509)":
        pass
    ctypedef struct X509_VERIFY_PARAM:
        pass
    ctypedef struct SSL_SESSION:
        pass
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_PKEY_CTX:
        pass
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_CIPHER_CTX:
        pass
    ctypedef struct EVP_MAC_CTX:
        pass
    ctypedef struct OSSL_PARAM:
        const char *key
        unsigned int data_type
        void *data
        size_t data_size
        size_t return_size
    ctypedef int (*pem_password_cb)(char *to, int n, int writing, void *data)

    enum:
        BIO_CTRL_FLUSH, BIO_TYPE_SOURCE_SINK
        SSL_ERROR_WANT_READ, SSL_ERROR_ZERO_RETURN, SSL_SENT_SHUTDOWN
        SSL_MODE_RELEASE_BUFFERS, SSL_SESS_CACHE_OFF, SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL
        SSL_VERIFY_NONE, SSL_VERIFY_PEER
        SSL_TLSEXT_ERR_ALERT_FATAL, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK
        TLSEXT_NAMETYPE_host_name, OPENSSL_NPN_NEGOTIATED
        TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION
        SSL_AD_UNRECOGNIZED_NAME, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_CLIENT_HELLO_SUCCESS, TLSEXT_TYPE_application_layer_protocol_negotiation, TLSEXT_TYPE_server_name
    unsigned long long SSL_OP_CIPHER_SERVER_PREFERENCE, SSL_OP_IGNORE_UNEXPECTED_EOF, SSL_OP_NO_COMPRESSION
    unsigned long long SSL_OP_NO_RENEGOTIATION, SSL_OP_PRIORITIZE_CHACHA

    const SSL_METHOD *TLS_server_method()
    const SSL_METHOD *TLS_client_method()
    SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
    void SSL_CTX_free(SSL_CTX *context)
    int SSL_CTX_set_min_proto_version(SSL_CTX *context, int version)
    unsigned long long SSL_CTX_set_options(SSL_CTX *context, unsigned long long options)
    long SSL_CTX_set_mode(SSL_CTX *context, long mode)
    long SSL_CTX_set_session_cache_mode(SSL_CTX *context, long mode)
    int SSL_CTX_set_session_id_context(SSL_CTX *context, const unsigned char *id, unsigned int n)
    int SSL_CTX_set_cipher_list(SSL_CTX *context, const char *ciphers)
    int SSL_CTX_set_ciphersuites(SSL_CTX *context, const char *suites)
    void SSL_CTX_set_read_ahead(SSL_CTX *context, int yes)
    void SSL_CTX_set_default_read_buffer_len(SSL_CTX *context, size_t n)
    int SSL_CTX_set_tlsext_ticket_key_evp_cb(
        SSL_CTX *context,
        int (*callback)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int))
    int SSL_CTX_set_app_data(SSL_CTX *context, void *data)
    void *SSL_CTX_get_app_data(const SSL_CTX *context)
    SSL_CTX *SSL_get_SSL_CTX(const SSL *ssl)
    int SSL_version(const SSL *ssl)
    long SSL_CTX_set_tlsext_servername_callback(SSL_CTX *context, int (*callback)(SSL *, int *, void *))
    long SSL_CTX_set_tlsext_servername_arg(SSL_CTX *context, void *argument)
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX *context,
        int (*callback)(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *),
        void *argument)

    void SSL_CTX_set_client_hello_cb(SSL_CTX *context, int (*callback)(SSL *, int *, void *), void *argument)
    int SSL_client_hello_get0_ext(SSL *ssl, unsigned int kind, const unsigned char **p, size_t *n)

    void SSL_CTX_sess_set_new_cb(SSL_CTX *context, int (*callback)(SSL *, SSL_SESSION *))
    void SSL_CTX_set_verify(SSL_CTX *context, int mode, int (*callback)(int, X509_STORE_CTX *))
    int SSL_CTX_add_client_CA(SSL_CTX *context, X509 *certificate)
    void SSL_CTX_set_cert_cb(SSL_CTX *context, int (*callback)(SSL *, void *), void *argument)
    long SSL_CTX_set_tlsext_status_cb(SSL_CTX *context, int (*callback)(SSL *, void *))
    long SSL_CTX_set_tlsext_status_arg(SSL_CTX *context, void *argument)
    long SSL_set_tlsext_status_ocsp_resp(SSL *ssl, unsigned char *response, long n)
    X509 *SSL_get_certificate(const SSL *ssl)
    X509 *SSL_get0_peer_certificate(const SSL *ssl)
    int SSL_CTX_use_cert_and_key(SSL_CTX *context, X509 *certificate, EVP_PKEY *key, STACK_OF_X509 *chain, int override)
    int SSL_use_cert_and_key(SSL *ssl, X509 *certificate, EVP_PKEY *key, STACK_OF_X509 *chain, int override)
    int SSL_CTX_set_alpn_protos(SSL_CTX *context, const unsigned char *protocols, unsigned int n)   # 0: done
    void SSL_CTX_set1_cert_store(SSL_CTX *context, X509_STORE *store)
    X509_VERIFY_PARAM *SSL_CTX_get0_param(SSL_CTX *context)

    SSL *SSL_new(SSL_CTX *context)
    void SSL_free(SSL *ssl)
    void SSL_set_accept_state(SSL *ssl)
    void SSL_set_connect_state(SSL *ssl)
    int SSL_do_handshake(SSL *ssl)
    int SSL_is_init_finished(const SSL *ssl)
    int SSL_set_tlsext_host_name(SSL *ssl, const char *name)
    int SSL_set1_host(SSL *ssl, const char *name)
    X509_VERIFY_PARAM *SSL_get0_param(SSL *ssl)
    long SSL_get_verify_result(const SSL *ssl)
    enum:
        SSL_CB_HANDSHAKE_DONE
    void SSL_set_info_callback(SSL *ssl, void (*callback)(const SSL *, int, int) noexcept)
    int SSL_set_ex_data(SSL *ssl, int index, void *data)
    void *SSL_get_ex_data(const SSL *ssl, int index)
    int SSL_set_session(SSL *ssl, SSL_SESSION *session)
    void SSL_SESSION_free(SSL_SESSION *session)
    int SSL_SESSION_is_resumable(const SSL_SESSION *session)
    int SSL_session_reused(const SSL *ssl)
    void SSL_set_shutdown(SSL *ssl, int mode)
    void SSL_set_bio(SSL *ssl, BIO *reading, BIO *writing)
    int SSL_has_pending(const SSL *ssl)
    const char *SSL_get_version(const SSL *ssl)
    const SSL_CIPHER *SSL_get_current_cipher(const SSL *ssl)
    const char *SSL_CIPHER_get_name(const SSL_CIPHER *cipher)
    const char *SSL_get_servername(const SSL *ssl, int kind)
    int SSL_select_next_proto(unsigned char **out, unsigned char *n, const unsigned char *ours, unsigned int ours_n,
                              const unsigned char *theirs, unsigned int theirs_n)
    int SSL_set_alpn_protos(SSL *ssl, const unsigned char *protocols, unsigned int n)   # 0: done
    void SSL_get0_alpn_selected(const SSL *ssl, const unsigned char **name, unsigned int *n)
    int SSL_read(SSL *ssl, void *to, int n)
    int SSL_write(SSL *ssl, const void *p, int n)
    int SSL_shutdown(SSL *ssl)
    int SSL_get_error(const SSL *ssl, int outcome)

    BIO_METHOD *BIO_meth_new(int kind, const char *name)
    int BIO_meth_set_read(BIO_METHOD *method, int (*read)(BIO *, char *, int))
    int BIO_meth_set_write(BIO_METHOD *method, int (*write)(BIO *, const char *, int))
    int BIO_meth_set_ctrl(BIO_METHOD *method, long (*control)(BIO *, int, long, void *))
    int BIO_get_new_index()
    BIO *BIO_new(const BIO_METHOD *method)
    BIO *BIO_new_mem_buf(const void *p, int n)
    int BIO_free(BIO *bio)
    void BIO_set_data(BIO *bio, void *data)
    void *BIO_get_data(BIO *bio)
    void BIO_set_init(BIO *bio, int yes)
    void BIO_set_retry_read(BIO *bio)
    void BIO_clear_retry_flags(BIO *bio)

cdef extern from "<openssl/pem.h>":
    X509 *PEM_read_bio_X509_AUX(BIO *bio, X509 **to, pem_password_cb callback, void *data)
    X509 *PEM_read_bio_X509(BIO *bio, X509 **to, pem_password_cb callback, void *data)
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **to, pem_password_cb callback, void *data)
    void X509_free(X509 *certificate)
    int X509_check_private_key(const X509 *certificate, const EVP_PKEY *key)
    int i2d_X509(const X509 *certificate, unsigned char **to)
    STACK_OF_X509 *sk_X509_new_null()
    int sk_X509_push(STACK_OF_X509 *stack, X509 *certificate)
    void sk_X509_pop_free(STACK_OF_X509 *stack, void (*release)(X509 *))
    void EVP_PKEY_free(EVP_PKEY *key)

cdef extern from "<openssl/evp.h>":
    enum:
        EVP_PKEY_KEYPAIR
    const char *EVP_PKEY_get0_type_name(const EVP_PKEY *key)
    int EVP_PKEY_todata(const EVP_PKEY *key, int selection, OSSL_PARAM **params)
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_name(void *library, const char *name, const char *properties)
    void EVP_PKEY_CTX_free(EVP_PKEY_CTX *context)
    int EVP_PKEY_fromdata_init(EVP_PKEY_CTX *context)
    int EVP_PKEY_fromdata(EVP_PKEY_CTX *context, EVP_PKEY **key, int selection, OSSL_PARAM *params)
    EVP_CIPHER *EVP_CIPHER_fetch(void *library, const char *name, const char *properties)
    int EVP_EncryptInit_ex2(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const unsigned char *key,
                            const unsigned char *iv, const OSSL_PARAM *params)
    int EVP_DecryptInit_ex2(EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const unsigned char *key,
                            const unsigned char *iv, const OSSL_PARAM *params)
    int EVP_MAC_CTX_set_params(EVP_MAC_CTX *context, const OSSL_PARAM *params)

cdef extern from "<openssl/params.h>":
    OSSL_PARAM OSSL_PARAM_construct_octet_string(const char *key, void *data, size_t n)
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char *key, char *text, size_t n)
    OSSL_PARAM OSSL_PARAM_construct_end()
    void OSSL_PARAM_free(OSSL_PARAM *params)

cdef extern from "<openssl/rand.h>":
    int RAND_bytes(unsigned char *to, int n)

cdef extern from "<openssl/crypto.h>":
    void OPENSSL_cleanse(void *p, size_t n)
    void *OPENSSL_malloc(size_t n)
    void OPENSSL_free(void *p)
    void OPENSSL_clear_free(void *p, size_t n)

cdef extern from "<openssl/err.h>":
    unsigned long ERR_get_error()
    void ERR_clear_error()
    const char *ERR_reason_error_string(unsigned long error)
    enum:
        ERR_LIB_SSL
    int ERR_GET_LIB(unsigned long error)
    int ERR_GET_REASON(unsigned long error)
    unsigned long ERR_PACK(int library, int function, int reason)

cdef extern from "<openssl/x509_vfy.h>":
    enum:
        X509_V_OK, X509_V_FLAG_PARTIAL_CHAIN
    X509_STORE *X509_STORE_new()
    void X509_STORE_free(X509_STORE *store)
    int X509_STORE_add_cert(X509_STORE *store, X509 *certificate)
    int X509_VERIFY_PARAM_set_flags(X509_VERIFY_PARAM *param, unsigned long flags)
    void X509_VERIFY_PARAM_set_hostflags(X509_VERIFY_PARAM *param, unsigned int flags)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM *param, const char *address)
    const char *X509_verify_cert_error_string(long error)

cdef extern from "<openssl/x509v3.h>":
    enum:
        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
