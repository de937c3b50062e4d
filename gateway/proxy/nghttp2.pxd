"""The part of libnghttp2's API (1.52 and newer) in use; see its manual pages: https://nghttp2.org/documentation/.

Declared here instead of in its header, and called through a table of functions that is filled when the library is
found, so that the gateway can be built, installed and run without it. The layouts are part of the stable interface of
libnghttp2.so.14.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef enum:
    # frames (RFC 9113 section 6)
    NG_DATA = 0
    NG_HEADERS = 1
    NG_PRIORITY = 2
    NG_RST_STREAM = 3
    NG_SETTINGS = 4
    NG_PUSH_PROMISE = 5
    NG_PING = 6
    NG_GOAWAY = 7
    NG_WINDOW_UPDATE = 8
    NG_CONTINUATION = 9
    # flags
    NG_FLAG_NONE = 0
    NG_FLAG_END_STREAM = 1
    NG_FLAG_ACK = 1
    NG_FLAG_END_HEADERS = 4
    # flags of a field
    NG_NV_FLAG_NO_INDEX = 1
    # kinds of HEADERS
    NG_CAT_REQUEST = 0
    # settings (RFC 9113 section 6.5.2, RFC 8441, RFC 9218)
    NG_SETTINGS_ENABLE_PUSH = 2
    NG_SETTINGS_MAX_CONCURRENT_STREAMS = 3
    NG_SETTINGS_INITIAL_WINDOW_SIZE = 4
    NG_SETTINGS_MAX_HEADER_LIST_SIZE = 6
    NG_SETTINGS_ENABLE_CONNECT_PROTOCOL = 8
    NG_SETTINGS_NO_RFC7540_PRIORITIES = 9
    # error codes (RFC 9113 section 7)
    NG_NO_ERROR = 0
    NG_PROTOCOL_ERROR = 1
    NG_INTERNAL_ERROR = 2
    NG_REFUSED_STREAM = 7
    NG_CANCEL = 8
    NG_CONNECT_ERROR = 10
    NG_ENHANCE_YOUR_CALM = 11
    # results of its functions and of the callbacks
    NG_ERR_WOULDBLOCK = -504
    NG_ERR_DEFERRED = -508
    NG_ERR_TEMPORAL_CALLBACK_FAILURE = -521
    NG_ERR_BAD_CLIENT_MAGIC = -903
    NG_ERR_FLOODED = -904
    NG_ERR_TOO_MANY_CONTINUATIONS = -905
    # of a data source
    NG_DATA_FLAG_EOF = 1
    NG_DATA_FLAG_NO_END_STREAM = 2
    NG_DATA_FLAG_NO_COPY = 4

ctypedef void ng_session
ctypedef void ng_callbacks
ctypedef void ng_option

ctypedef struct ng_nv:
    uint8_t *name
    uint8_t *value
    size_t namelen
    size_t valuelen
    uint8_t flags

ctypedef struct ng_frame_hd:
    size_t length
    int32_t stream_id
    uint8_t type
    uint8_t flags
    uint8_t reserved

ctypedef struct ng_priority_spec:
    int32_t stream_id
    int32_t weight
    uint8_t exclusive

ctypedef struct ng_headers:
    ng_frame_hd hd
    size_t padlen
    ng_priority_spec pri_spec
    ng_nv *nva
    size_t nvlen
    int cat

ctypedef struct ng_rst_stream:
    ng_frame_hd hd
    uint32_t error_code

ctypedef struct ng_goaway:
    ng_frame_hd hd
    int32_t last_stream_id
    uint32_t error_code

# They share their first part; the rest is accessed by type.
ctypedef union ng_frame:
    ng_frame_hd hd
    ng_headers headers
    ng_rst_stream rst_stream
    ng_goaway goaway

ctypedef struct ng_settings_entry:
    int32_t settings_id
    uint32_t value

ctypedef union ng_data_source:
    int fd
    void *ptr

# What the library calls back with: -1 is a failure to it, as any number that it does not know.
ctypedef ssize_t (*ng_read)(ng_session *, int32_t, uint8_t *, size_t, uint32_t *, ng_data_source *, void *) except -1

ctypedef struct ng_data_provider:
    ng_data_source source
    ng_read read_callback

ctypedef ssize_t (*ng_send)(ng_session *, const uint8_t *, size_t, int, void *) except -1
ctypedef int (*ng_send_data)(ng_session *, ng_frame *, const uint8_t *, size_t, ng_data_source *, void *) except -1
ctypedef int (*ng_on_begin_frame)(ng_session *, const ng_frame_hd *, void *) except -1
ctypedef int (*ng_on_frame)(ng_session *, const ng_frame *, void *) except -1
ctypedef int (*ng_on_invalid)(ng_session *, const ng_frame *, int, void *) except -1
ctypedef int (*ng_on_header)(ng_session *, const ng_frame *, const uint8_t *, size_t, const uint8_t *, size_t, uint8_t,
                             void *) except -1
ctypedef int (*ng_on_chunk)(ng_session *, uint8_t, int32_t, const uint8_t *, size_t, void *) except -1
ctypedef int (*ng_on_close)(ng_session *, int32_t, uint32_t, void *) except -1

ctypedef struct ng_mem:
    void *user_data
    void *(*malloc)(size_t, void *) noexcept
    void (*free)(void *, void *) noexcept
    void *(*calloc)(size_t, size_t, void *) noexcept
    void *(*realloc)(void *, size_t, void *) noexcept

# Functions of the library; nghttp2.pyx has their names, in this order.
cdef struct NgFunctions:
    int (*session_callbacks_new)(ng_callbacks **) noexcept
    void (*set_send)(ng_callbacks *, ng_send) noexcept
    void (*set_send_data)(ng_callbacks *, ng_send_data) noexcept
    void (*set_on_begin_frame)(ng_callbacks *, ng_on_begin_frame) noexcept
    void (*set_on_frame_recv)(ng_callbacks *, ng_on_frame) noexcept
    void (*set_on_frame_send)(ng_callbacks *, ng_on_frame) noexcept
    void (*set_on_invalid_frame_recv)(ng_callbacks *, ng_on_invalid) noexcept
    void (*set_on_begin_headers)(ng_callbacks *, ng_on_frame) noexcept
    void (*set_on_header)(ng_callbacks *, ng_on_header) noexcept
    void (*set_on_data_chunk_recv)(ng_callbacks *, ng_on_chunk) noexcept
    void (*set_on_stream_close)(ng_callbacks *, ng_on_close) noexcept
    int (*option_new)(ng_option **) noexcept
    void (*option_set_no_auto_window_update)(ng_option *, int) noexcept
    void (*option_set_no_http_messaging)(ng_option *, int) noexcept
    void (*option_set_no_closed_streams)(ng_option *, int) noexcept
    void (*option_set_max_send_header_block_length)(ng_option *, size_t) noexcept
    int (*session_server_new3)(ng_session **, const ng_callbacks *, void *, const ng_option *, ng_mem *) noexcept
    int (*session_client_new2)(ng_session **, const ng_callbacks *, void *, const ng_option *) noexcept
    void (*session_del)(ng_session *) noexcept
    ssize_t (*session_mem_recv)(ng_session *, const uint8_t *, size_t) noexcept
    int (*session_send)(ng_session *) noexcept
    int (*session_want_read)(ng_session *) noexcept
    int (*session_want_write)(ng_session *) noexcept
    int (*session_terminate_session)(ng_session *, uint32_t) noexcept
    int (*session_consume_connection)(ng_session *, size_t) noexcept
    int (*session_consume_stream)(ng_session *, int32_t, size_t) noexcept
    int (*session_resume_data)(ng_session *, int32_t) noexcept
    int (*session_set_stream_user_data)(ng_session *, int32_t, void *) noexcept
    void *(*session_get_stream_user_data)(ng_session *, int32_t) noexcept
    int32_t (*session_get_stream_remote_window_size)(ng_session *, int32_t) noexcept
    int32_t (*session_get_remote_window_size)(ng_session *) noexcept
    int32_t (*session_get_last_proc_stream_id)(ng_session *) noexcept
    uint32_t (*session_get_remote_settings)(ng_session *, int) noexcept
    int (*session_set_local_window_size)(ng_session *, uint8_t, int32_t, int32_t) noexcept
    int (*submit_settings)(ng_session *, uint8_t, const ng_settings_entry *, size_t) noexcept
    int (*submit_ping)(ng_session *, uint8_t, const uint8_t *) noexcept
    int32_t (*submit_request)(ng_session *, const ng_priority_spec *, const ng_nv *, size_t, const ng_data_provider *,
                              void *) noexcept
    int (*submit_response)(ng_session *, int32_t, const ng_nv *, size_t, const ng_data_provider *) noexcept
    int32_t (*submit_headers)(ng_session *, uint8_t, int32_t, const ng_priority_spec *, const ng_nv *, size_t,
                              void *) noexcept
    int (*submit_trailer)(ng_session *, int32_t, const ng_nv *, size_t) noexcept
    int (*submit_rst_stream)(ng_session *, uint8_t, int32_t, uint32_t) noexcept
    int (*submit_goaway)(ng_session *, uint8_t, int32_t, uint32_t, const uint8_t *, size_t) noexcept
    int (*submit_shutdown_notice)(ng_session *) noexcept
    const char *(*strerror)(int) noexcept

cdef NgFunctions ng

# What the library calls back with, for sessions of one kind; NULL: it does not.
cdef struct Callbacks:
    ng_send send
    ng_send_data send_data
    ng_on_begin_frame begin_frame
    ng_on_frame frame
    ng_on_frame sent
    ng_on_invalid invalid
    ng_on_frame begin_headers
    ng_on_header header
    ng_on_chunk chunk
    ng_on_close close

# Where the library composes the frame that a session sends next.
cdef struct FrameBuffer:
    char *p                            # NULL: it is not known
    size_t n

cdef extern from *:
    """
    static inline int raised_before(void) {
        return PyErr_Occurred() ? -1 : 0;
    }
    """
    int raised "raised_before"() except -1  # raises what a callback has raised, now that the library has returned

cdef ng_callbacks *registered(const Callbacks *those) except? NULL
cdef ng_session *new_server_session(const ng_callbacks *callbacks, void *owner, FrameBuffer *frame) except NULL
cdef void drop_pages(ng_session *session, FrameBuffer *frame) noexcept

cdef bint found                        # whether the library is available, with all of these functions
cdef ng_option *option      # of every session
