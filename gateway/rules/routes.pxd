from libc.stdint cimport uint8_t, uint32_t

cdef class Route:
    cdef readonly int index             # position in the site file
    cdef readonly object action         # what the owner of the table put there
    cdef uint8_t scheme                 # 0 any, 1 http, 2 https
    cdef tuple hosts
    cdef tuple paths                    # (bytes, exact)

    cdef int match_path(self, const char *path, uint32_t n) noexcept

cdef class RouteTable:
    cdef dict exact                     # host -> routes that can hold for it, in order
    cdef dict wild                      # ".example.com" -> the same, for hosts below it
    cdef list rest                      # for every other host

    cdef list candidates(self, const char *host, uint32_t n)
