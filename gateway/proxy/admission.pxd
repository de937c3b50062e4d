from gateway.proxy.backend cimport Backend
from gateway.rules.view cimport View

# What admission says of a request that has a backend.
cdef enum Admit:
    ADMIT_GO = 0
    ADMIT_WAIT              # in the backend's queue, at `level`
    ADMIT_REFUSE

cdef class Admission:
    """Whether a request may go on to its backend now. This one lets every request go."""
    cdef int level          # of the request that was asked about last, in the queue of its backend; 0 comes first

    cdef int admit(self, View view, Backend backend) except -1
