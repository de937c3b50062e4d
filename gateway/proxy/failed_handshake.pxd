cdef int reason_of(int tls_error) noexcept
