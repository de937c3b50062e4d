"""The step between route and pick: go, wait, or be refused. Quality of service fills it in; without, all go."""


cdef class Admission:
    cdef int admit(self, View view, Backend backend) except -1:
        """One of Admit; for ADMIT_WAIT, `queue` and `level` say where."""
        return ADMIT_GO
