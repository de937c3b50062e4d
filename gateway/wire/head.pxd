from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

cdef enum:
    MAX_FIELDS = 1000

# Fields whose meaning the gateway knows. The order matters: all up to F_LAST_HOP are hop-by-hop and never forwarded,
# those up to F_LAST_OWN are written by the gateway itself.
cdef enum Known:
    F_OTHER = 0
    F_CONNECTION
    F_KEEP_ALIVE
    F_PROXY                 # Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, …
    F_TE
    F_TRAILER
    F_UPGRADE
    F_HTTP2_SETTINGS
    F_TRANSFER_ENCODING
    F_LAST_HOP = F_TRANSFER_ENCODING
    F_X_FORWARDED_FOR
    F_X_FORWARDED_PROTO
    F_X_FORWARDED_HOST
    F_X_FORWARDED           # X-Forwarded-anything-else, X-Real-IP
    F_FORWARDED
    F_VIA
    F_LAST_OWN = F_VIA
    F_HOST
    F_CONTENT_LENGTH
    F_EXPECT
    F_COOKIE
    F_USER_AGENT
    F_REFERER
    F_AUTHORIZATION
    F_CONTENT_TYPE
    F_CACHE_CONTROL
    F_SET_COOKIE
    F_DATE
    F_SERVER
    F_REQUEST_ID
    F_TRACEPARENT
    F_WWW_AUTHENTICATE      # the last must be less than 32: see `kinds`

cdef enum Method:
    M_OTHER = 0
    M_GET
    M_HEAD
    M_POST
    M_PUT
    M_DELETE
    M_OPTIONS
    M_PATCH
    M_TRACE
    M_CONNECT

# Why a head was refused. Each has a status and a sentence: see REASONS in head.pyx.
cdef enum Reason:
    R_OK = 0
    R_MORE                  # not an error: the head is not complete yet
    R_BARE_LF
    R_BARE_CR
    R_METHOD
    R_TARGET
    R_TARGET_TOO_LONG
    R_VERSION
    R_VERSION_UNSUPPORTED
    R_NAME
    R_VALUE
    R_FOLD
    R_TOO_MANY_FIELDS
    R_TOO_LARGE
    R_HOST_MISSING
    R_HOST_REPEATED
    R_HOST_INVALID
    R_HOST_DISAGREES
    R_LENGTH
    R_LENGTH_REPEATED
    R_LENGTH_AND_CODING
    R_CODING
    R_CODING_OLD
    R_CONNECT
    R_STATUS_LINE
    R_PATH
    R_EXPECT
    R_BODY_TOO_LARGE
    R_CHUNK
    R_TIMEOUT
    R_ENCODED_SLASH
    R_PARAMETERS
    R_MAX_FORWARDS
    # of HTTP/2
    R_PSEUDO
    R_CASE
    R_CONNECTION
    R_BODY_LENGTH
    R_TRAILERS
    R_PROTOCOL
    # of responses
    R_STATUS_FIELD
    R_FRAMES
    R_FLOOD
    R_HEAD_CUT
    R_NOT_ASKED
    R_INTERIMS
    R_EARLY_SWITCH
    R_NO_SWITCH
    R_ACCEPT
    R_LAST = R_ACCEPT

cdef struct Field:
    uint32_t name           # offsets from the start of the head
    uint32_t value
    uint32_t value_len
    uint16_t name_len
    uint8_t known
    uint8_t drop            # not to be forwarded

cdef struct Head:
    uint32_t length         # of the head with its empty line
    uint32_t target         # request target (of absolute-form: what follows the authority)
    uint32_t target_len
    uint32_t path_len       # of the target, up to the "?"
    uint32_t authority      # of an absolute-form target
    uint32_t authority_len
    uint32_t host           # value of Host without the port
    uint32_t host_len
    uint32_t hostport_len   # value of Host with the port, at `host`
    uint32_t reason         # of a response: the phrase
    uint32_t reason_len
    uint32_t method_len     # at offset 0
    uint16_t status
    uint8_t method
    uint8_t minor           # HTTP/1.minor
    uint8_t http2           # made of a header block of HTTP/2
    uint8_t chunked
    uint8_t keep_alive
    uint8_t expects         # Expect: 100-continue
    uint8_t upgrade         # Connection: upgrade and one Upgrade field that names one protocol, and no other HTTP
    uint8_t trailers        # TE: trailers
    uint16_t upgrade_field   # index of that field
    uint8_t plain_target    # the path needs no normalising
    uint8_t has_host
    int64_t content_length  # -1: none given
    uint32_t kinds          # what there is among `fields`: bit k is set if a field is of the Known k
    int count
    Field fields[MAX_FIELDS]

cdef struct Bounds:
    uint32_t head
    uint32_t target
    uint32_t fields

cdef int find_end(const char *p, uint32_t n, uint32_t *seen, uint32_t *end) noexcept nogil
cdef int scan_request(const char *p, uint32_t n, Head *h, Bounds *bounds) noexcept nogil
cdef int scan_response(const char *p, uint32_t n, Head *h, Bounds *bounds) noexcept nogil
cdef int check_start(const char *p, uint32_t n, Bounds *bounds) noexcept nogil
cdef uint8_t known_field(const char *p, uint32_t n, bint *alias) noexcept nogil
cdef bint same_any(const char *a, const char *b, uint32_t n) noexcept nogil
cdef bint same_to_servers(const char *a, const char *b, uint32_t n) noexcept nogil
cdef int status_of(int reason) noexcept nogil
cdef str sentence_of(int reason)
cdef bint is_token(const char *p, uint32_t n) noexcept nogil
