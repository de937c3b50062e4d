from libc.stdint cimport int64_t
from gateway.board cimport Board, TimeRow

# The combined data of all workers about one server: a request that finds `ahead` others there gets its response after
# about drift * (base + slope * ahead) seconds.
cdef struct Estimate:
    double base
    double slope
    double drift            # ratio of the last response times to the line's predictions; at least 1
    double answers          # weight of the line, in responses; 0: no data
    double variance         # of one response time, relative to its mean
    double surprise         # log-likelihood ratio that the server has just become slow; 0: no evidence

cdef double SLOW            # times slower: the assumption about a server that has become slow

cdef void begin(TimeRow *row, int64_t now) noexcept nogil
cdef void answer(TimeRow *row, int64_t now, int64_t picked, int ahead, bint failed) noexcept nogil
cdef void give_up(TimeRow *row, int64_t now, int64_t picked, int ahead) noexcept nogil
cdef Estimate look(Board board, int slot, int workers, int64_t now) noexcept nogil
