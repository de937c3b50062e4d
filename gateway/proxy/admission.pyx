"""The step between route and pick: go, wait, or be refused. Quality of service fills it in; without, all go."""


cdef class Admission:
    cdef int admit(self, View view, Backend backend) except -1:
        """One of Admit. Whether it waits now or later, for room at a server: `level` says who comes first."""
        return ADMIT_GO
