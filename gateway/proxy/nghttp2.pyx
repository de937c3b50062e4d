"""HTTP/2 framing and HPACK by libnghttp2, loaded when the process starts: a confined worker cannot open a library."""

from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlopen, dlsym

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
    b"session_server_new2",
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
    return made


cdef ng_option *option = _options()


def available():
    """Whether HTTP/2 is available: libnghttp2 is installed, in version 1.52 or newer."""
    return found
