from gateway.rules.actions cimport Step
from gateway.rules.question cimport Question
from gateway.rules.view cimport View

cdef class Logins:
    """The users of a file, and what was found about their passwords lately."""
    cdef readonly object hashes         # hash by user, both as in the file
    cdef str _stand_in                  # the hash that unknown users' passwords are compared with
    cdef bytes _key                     # for digests of credentials
    cdef dict _known                    # digest -> (until when it holds, monotonic, in seconds; whether it fits)

    cdef object known(self, bytes digest)

cdef class Login(Question):
    """Credentials that are not checked yet. key: their digest, by a key of the process; the answer: do they fit?"""
    cdef readonly Logins logins
    cdef bytes user
    cdef bytes password

cdef class RequireLogin(Step):
    cdef Logins logins
    cdef object users                   # frozenset of bytes; None: every user of the file
    cdef bint forward
    cdef bytes challenge                # a complete header line

    cdef object refusal(self, View v)
