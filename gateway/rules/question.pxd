cdef class Question:
    """What a decision waits for: it ends the search, is settled beside the traffic, and another one begins."""
    cdef readonly object key        # of the answer in View.settled


cdef class ProgramQuestion(Question):
    """A key of a map that a program answers."""
    cdef readonly str name          # of the map
    cdef readonly tuple command     # program and arguments
    cdef readonly bytes text        # the key
