from libc.stdint cimport int64_t
from gateway.proxy.backend cimport Backend
from gateway.proxy.decide cimport Decision
from gateway.rules.view cimport View

cdef dict reasons(View view, Decision d, dict trace)
cdef list candidates(Backend backend, int64_t now)
cdef int add_expectations(Backend backend, list found) except -1
