"""HTTP/2 framing and HPACK by libnghttp2, loaded when the process starts: a confined worker cannot open a library."""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset
from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlopen, dlsym
from posix.unistd cimport _SC_PAGESIZE, sysconf

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **p, size_t alignment, size_t n)

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MADV_DONTNEED
    int madvise(void *p, size_t n, int advice)

cdef enum:
    PAYLOAD = 16384             # of a frame, at most: SETTINGS_MAX_FRAME_SIZE (RFC 9113 section 6.5.2)
    BLOCK = 1 << 24             # of a head that is sent: the limits of heads are elsewhere, the library's is 64 KiB

LIBRARY = b"libnghttp2.so.14"
NAMES = (
    b"session_callbacks_new",
    b"session_callbacks_set_send_callback",
    b"session_callbacks_set_send_data_callback",
    b"session_callbacks_set_on_begin_frame_callback",
    b"session_callbacks_set_on_frame_recv_callback",
    b"session_callbacks_set_on_frame_send_callback",
    b"session_callbacks_set_on_invalid_frame_recv_callback",
    b"session_callbacks_set_on_begin_headers_callback",
    b"session_callbacks_set_on_header_callback",
    b"session_callbacks_set_on_data_chunk_recv_callback",
    b"session_callbacks_set_on_stream_close_callback",
    b"option_new",
    b"option_set_no_auto_window_update",
    b"option_set_no_http_messaging",
    b"option_set_no_closed_streams",
    b"option_set_max_send_header_block_length",
    b"session_server_new3",
    b"session_client_new2",
    b"session_del",
    b"session_mem_recv",
    b"session_send",
    b"session_want_read",
    b"session_want_write",
    b"session_terminate_session",
    b"session_consume_connection",
    b"session_consume_stream",
    b"session_resume_data",
    b"session_set_stream_user_data",
    b"session_get_stream_user_data",
    b"session_get_stream_remote_window_size",
    b"session_get_remote_window_size",
    b"session_get_last_proc_stream_id",
    b"session_get_remote_settings",
    b"session_set_local_window_size",
    b"submit_settings",
    b"submit_ping",
    b"submit_request",
    b"submit_response",
    b"submit_headers",
    b"submit_trailer",
    b"submit_rst_stream",
    b"submit_goaway",
    b"submit_shutdown_notice",
    b"strerror",
)
"""In the order of NgFunctions."""

cdef NgFunctions ng
cdef size_t PAGE = sysconf(_SC_PAGESIZE)


cdef bint _find() except -1:
    cdef void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL)
    cdef void **functions = <void **>&ng
    assert sizeof(NgFunctions) == len(NAMES) * sizeof(void *)
    if library == NULL:
        return False
    for i, name in enumerate(NAMES):
        functions[i] = dlsym(library, b"nghttp2_" + name)
        if functions[i] == NULL:
            return False
    return True


cdef bint found = _find()


cdef ng_option *_options() except *:
    cdef ng_option *made = NULL
    if not found:
        return NULL
    if ng.option_new(&made):
        raise MemoryError
    ng.option_set_no_auto_window_update(made, 1)
    ng.option_set_no_http_messaging(made, 1)    # wire/http2_head.pyx, http2_answer.pyx and the streams do it
    ng.option_set_no_closed_streams(made, 1)
    ng.option_set_max_send_header_block_length(made, BLOCK)
    return made


cdef ng_option *option = _options()


cdef ng_callbacks *registered(const Callbacks *those) except? NULL:
    """The form in which the library takes them, for all sessions of a kind; NULL: it is not available."""
    cdef ng_callbacks *made = NULL
    if not found:
        return NULL
    if ng.session_callbacks_new(&made):
        raise MemoryError
    ng.set_send(made, those.send)
    ng.set_send_data(made, those.send_data)
    ng.set_on_begin_frame(made, those.begin_frame)
    ng.set_on_frame_recv(made, those.frame)
    ng.set_on_frame_send(made, those.sent)
    ng.set_on_invalid_frame_recv(made, those.invalid)
    ng.set_on_begin_headers(made, those.begin_headers)
    ng.set_on_header(made, those.header)
    ng.set_on_data_chunk_recv(made, those.chunk)
    ng.set_on_stream_close(made, those.close)
    return made


# --------------------------------------------------------------------------------------------- the memory of a session

cdef FrameBuffer *_new = NULL           # of the session that is being made; NULL: none is


cdef void *_malloc(size_t n, void *owner) noexcept:
    cdef void *p = NULL
    if n < PAYLOAD or _new == NULL:
        return malloc(n)
    # Only a session's buffer for frames is that large when it is made. Whole pages can be given back.
    if posix_memalign(&p, PAGE, n):
        return NULL
    _new.p = <char *>p if _new.n == 0 else NULL
    _new.n += n
    return p


cdef void _free(void *p, void *owner) noexcept:
    if p == (<FrameBuffer *>owner).p:
        (<FrameBuffer *>owner).p = NULL
    free(p)


cdef void *_calloc(size_t count, size_t n, void *owner) noexcept:
    return calloc(count, n)


cdef void *_realloc(void *p, size_t n, void *owner) noexcept:
    if p == NULL:
        return _malloc(n, owner)
    if p == (<FrameBuffer *>owner).p:
        (<FrameBuffer *>owner).p = NULL
    return realloc(p, n)


cdef ng_session *new_server_session(const ng_callbacks *callbacks, void *owner, FrameBuffer *frame) except NULL:
    """A session with a client; `frame` belongs to it, and must live as long."""
    global _new
    cdef ng_session *made = NULL
    cdef ng_mem mem
    memset(frame, 0, sizeof(FrameBuffer))
    mem.user_data = frame
    mem.malloc = _malloc
    mem.free = _free
    mem.calloc = _calloc
    mem.realloc = _realloc
    _new = frame
    failed = ng.session_server_new3(&made, callbacks, owner, option, &mem)
    _new = NULL
    if failed:
        raise MemoryError
    return made


cdef void drop_pages(ng_session *session, FrameBuffer *frame) noexcept:
    """Give the memory of a session's buffer for frames back to the system, if nothing is in it: it returns, empty, with
    the next frame. These 16 KiB are more than half of what the library has for an idle session."""
    if frame.p != NULL and not ng.session_want_write(session):
        madvise(frame.p, frame.n & ~(PAGE - 1), MADV_DONTNEED)


def available():
    """Whether HTTP/2 is available: libnghttp2 is installed, in version 1.52 or newer."""
    return found
