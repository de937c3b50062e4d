from libc.stdint cimport int64_t
from gateway.board cimport Board, TimeRow

# What the rows of all workers say of one server: a request that finds `ahead` others there takes about
# drift * (base + slope * ahead) seconds to its answer.
cdef struct Estimate:
    double base
    double slope
    double drift            # how much slower the last answers were than the line had promised; at least 1
    double answers          # how many the line is worth; 0: nothing is known
    double variance         # of one answer, relative to its mean
    double surprise         # log-likelihood ratio for that the server has just turned slow; 0: nothing speaks for it

cdef double SLOW            # times slower: what a server is taken for that has turned slow

cdef void begin(TimeRow *row, int64_t now) noexcept nogil
cdef void answer(TimeRow *row, int64_t now, int64_t picked, int ahead, bint failed) noexcept nogil
cdef void give_up(TimeRow *row, int64_t now, int64_t picked, int ahead) noexcept nogil
cdef Estimate look(Board board, int slot, int workers, int64_t now) noexcept nogil
