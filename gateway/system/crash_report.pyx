"""What a process of the gateway writes to the log when a signal such as SIGSEGV ends it: its name and its traceback.

Nothing of Python may run in the handler of such a signal. faulthandler of the standard library writes the traceback
without it, but does not say whose it is; the handler here writes the line before.
"""

import faulthandler
import os

from libc.string cimport memcpy
from posix.signal cimport SA_NODEFER, SA_ONSTACK, sigaction, sigaction_t, sigemptyset
from posix.unistd cimport write

cdef extern from "<signal.h>" nogil:
    int SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV
    int send_to_self "raise" (int number)

cdef enum:
    SIGNALS = 5
    MOST = 100

cdef int[SIGNALS] numbers
cdef sigaction_t[SIGNALS] next_ones    # faulthandler's, and behind those what was there before
cdef char[MOST] line
cdef size_t length = 0

numbers[:] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV]


cdef void _speak(int number) noexcept nogil:
    """The handler: async-signal-safe (signal-safety(7))."""
    cdef int i
    if write(2, line, length) < 0:
        pass    # the traceback, too, goes nowhere then
    for i in range(SIGNALS):
        if numbers[i] == number:
            sigaction(number, &next_ones[i], NULL)
    send_to_self(number)    # at once, as SA_NODEFER says: what follows has this frame to unwind through


def enable(str name):
    """From now on, let the log (standard error) say that a process of this name has died by a signal, and where.

    A child inherits the handlers, and calls this again with its own name and process id. Raises ValueError if the name
    is too long.
    """
    global length
    cdef bytes text = f"{name} (pid {os.getpid()}) dies, at:\n".encode()
    cdef sigaction_t action
    cdef int i
    if len(text) > MOST:
        raise ValueError(f"longer than {MOST} bytes: {text!r}")
    cdef bint first = length == 0
    length = 0    # should it happen just now: nothing rather than half of it
    memcpy(line, <char *>text, len(text))
    length = len(text)
    if not first:
        return
    faulthandler.enable(file=2)
    action.sa_handler = _speak
    action.sa_flags = SA_NODEFER | SA_ONSTACK
    sigemptyset(&action.sa_mask)
    for i in range(SIGNALS):
        sigaction(numbers[i], &action, &next_ones[i])
