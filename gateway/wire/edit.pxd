from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy
from gateway.wire.head cimport Head

# A growing buffer that is kept and reused.
cdef struct Out:
    char *p
    uint32_t n
    uint32_t capacity

# What the gateway says about the client, the same for every request of a connection.
cdef struct Origin:
    const char *fixed           # X-Forwarded-For … Forwarded: for=…;proto=… : complete but for the host
    uint32_t fixed_len
    const char *address         # as in X-Forwarded-For
    uint32_t address_len
    const char *node            # as in Forwarded: for=
    uint32_t node_len
    const char *via             # a complete Via line
    uint32_t via_len
    const char *fallback_host   # for an HTTP/1.0 request without Host
    uint32_t fallback_host_len
    uint8_t trusted             # the peer's own X-Forwarded-* and Forwarded are believed and extended
    uint8_t https
    # Of the request under way, from a trusted peer.
    const char *client          # its client, as in X-Forwarded-For
    uint32_t client_len
    const char *client_node     # as in Forwarded: for=
    uint32_t client_node_len
    uint8_t told                # the client is not the peer
    uint8_t asked_https         # the client spoke https; of a peer that is not trusted: as `https`

cdef enum Framing:
    FRAME_NONE = 0              # no body follows
    FRAME_LENGTH
    FRAME_CHUNKED
    FRAME_CLOSE                 # the body ends with the connection

cdef int out_reserve(Out *o, size_t more) except -1
cdef int out_append(Out *o, const char *p, size_t n) except -1
cdef void out_free(Out *o) noexcept nogil
cdef int edit_request(Out *o, const char *p, Head *h, const char *path, uint32_t path_len, Origin *origin,
                      const char *extra, uint32_t extra_len, const char *id, uint32_t id_len) except -1
cdef int edit_response(Out *o, const char *p, Head *h, int framing, int connection, const char *extra,
                       uint32_t extra_len, const char *id, uint32_t id_len) except -1
cdef int edit_interim(Out *o, const char *p, Head *h) except -1
cdef int edit_upgrade(Out *o, const char *p, Head *h, const char *extra, uint32_t extra_len, const char *id,
                      uint32_t id_len) except -1
cdef int edit_trailers(Out *o, const char *p, uint32_t n) except -1
cdef int number(char *to, int64_t value) noexcept nogil
cdef int three_digits(char *to, uint32_t value) noexcept nogil

cdef inline void out_put(Out *o, const char *p, uint32_t n) noexcept nogil:
    """Append n bytes; the room must have been reserved."""
    memcpy(o.p + o.n, p, n)
    o.n += n
