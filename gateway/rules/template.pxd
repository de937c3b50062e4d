from gateway.rules.view cimport View

cdef class Template:
    """A text with fields that are filled in from the request."""
    cdef tuple parts                # (literal, code of the field that follows, its name, how to encode it)
    cdef readonly bytes fixed       # the whole text, if there are no fields

    cdef bytes render(self, View v)
