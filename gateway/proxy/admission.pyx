"""Admission: the step between route and pick. Every rate limit that applies counts the request, which then proceeds at
once, proceeds later, or is refused. `decide` has already refused requests of classes with `admit: never`.
"""

from libc.stdint cimport uint64_t

from gateway.proxy.qos_class cimport ADMITS_ALWAYS
from gateway.rules.rate_limit cimport Charge
from gateway.rules.request_key cimport MOST_KEYS


cdef class Admission:
    """rates: the table that all workers share."""

    def __init__(self, RateTable rates):
        self.rates = rates

    cdef int64_t charge(self, View view, QosClass klass, int64_t now, bint patient) except -2:
        """Count a request; klass: its class, or None. patient: it may be delayed.

        Returns the ns until it may proceed, or -1: it is refused, and no limit has counted it.
        """
        cdef list charges = view.charges
        cdef Charge charge
        cdef uint64_t keys[MOST_KEYS]
        cdef int64_t longest = 0, wait
        cdef int i, n, count = 0
        self.over = False
        if klass is not None and (klass.admits == ADMITS_ALWAYS or (charges is None and klass.limit is None)):
            return 0
        if charges is not None:
            count = <int>len(charges)
            for i in range(count):
                charge = <Charge>charges[i]
                wait = self._take(charge.limit, charge.key, now, patient)
                if wait < 0:
                    self._give_back(charges, i)
                    return -1
                longest = max(longest, wait)
        if klass is not None and klass.limit is not None:
            n = klass.limit.by.keys(view, keys)
            for i in range(n):
                wait = self._take(klass.limit, keys[i], now, patient)
                if wait < 0:
                    self._give_back(charges, count)
                    for n in range(i):
                        self.rates.give_back(keys[n], &klass.limit.rate)
                    return -1
                longest = max(longest, wait)
        return longest

    cdef int64_t _take(self, RateLimit limit, uint64_t key, int64_t now, bint patient) except -2:
        cdef int64_t wait = self.rates.take(key, &limit.rate, now, limit.max_delay if patient else 0)
        if wait == 0:
            return 0
        if limit.dry_run:
            self.over = True
            return 0
        if wait < 0:
            self.limit = limit
            self.wait = -wait
            return -1
        return wait

    cdef int _give_back(self, list charges, int count) except -1:
        """Undo the first `count` of the charges."""
        cdef Charge charge
        cdef int i
        for i in range(count):
            charge = <Charge>charges[i]
            self.rates.give_back(charge.key, &charge.limit.rate)
        return 0
