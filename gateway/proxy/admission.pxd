from gateway.proxy.backend cimport Backend
from gateway.proxy.queue cimport WaitQueue
from gateway.rules.view cimport View

# What admission says of a request that has a backend.
cdef enum Admit:
    ADMIT_GO = 0
    ADMIT_WAIT              # in `queue`, at `level`
    ADMIT_REFUSE

cdef class Admission:
    """Whether a request may go on to its backend now. This one lets every request go."""
    cdef WaitQueue queue    # of those that wait to be admitted, or None
    cdef int level

    cdef int admit(self, View view, Backend backend) except -1
