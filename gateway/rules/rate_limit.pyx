"""Rate limits of a site file: the key by which requests are counted, and the response to a client over the limit.

qos/rates.pyx decides at admission whether a request may proceed. Nothing is counted here.
"""

from hashlib import blake2b
from math import ceil, floor

from libc.stdint cimport uint64_t

from gateway.rules.request_key cimport MOST_KEYS
from gateway.rules.template cimport Template
from qos.rates cimport rate_of

from gateway.config.rate_limit import rate_text


cdef class RateLimit:
    """rate: requests per second, from qos.rates.SLOWEST to FASTEST. burst: requests at once, at least 1.

    per: a kind of config.rate_limit.Per, with `field` or `template`; None: all requests share the rate. delay: seconds
    that a request may be delayed. secret: 16 bytes, of the table in which it is counted.
    """

    def __init__(self, str name, double rate, int64_t burst, *, per, str field="", Template template=None,
                 double delay=0.0, bint dry_run=False, bytes secret):
        self.name = name
        self.rate = rate_of(rate, burst)
        self.max_delay = <int64_t>(delay * 1e9)
        self.dry_run = dry_run
        shown = f"{per}:{field}" if field else per
        identity = f"{name} {rate!r} {burst} {shown}"
        own = blake2b(identity.encode(), key=secret, digest_size=16).digest()
        self.by = RequestKey(per, field, template, secret=own)
        self.text = f"rate {rate_text(rate)}, burst {burst}"
        self.text += f", per {shown}" if shown else ""
        self.text += f", delayed for up to {delay:g} s" if delay else ""
        self.text += ", dry run" if dry_run else ""
        # In the terms of the draft: a quota and a window. The requests that fit into whole seconds at the rate.
        window = max(1, ceil(burst / rate - 1e-9))
        quota = max(burst, floor(rate * window + 1e-9))
        self.policy = f'RateLimit-Policy: "{name}";q={quota};w={window}\r\n'.encode()

    cdef bytes refusal(self, int64_t wait):
        """Header lines for a client that exceeds the limit; `wait` ns until the request would conform.

        draft-ietf-httpapi-ratelimit-headers-10: r is the remaining quota, t the seconds until there is more.
        """
        cdef int64_t seconds = max(1, (wait + 999_999_999) // 1_000_000_000)
        return b'Retry-After: %d\r\n%sRateLimit: "%s";r=0;t=%d\r\n' % (
            seconds, self.policy, self.name.encode(), seconds)

    # For tests.

    def refused(self, int64_t wait):
        """The same as `refusal`."""
        return self.refusal(wait)


cdef class CountRate(Step):
    """Records the keys of a request that the limit will count at admission."""

    def __init__(self, RateLimit limit):
        self.limit = limit
        self.text = limit.text

    cdef object run(self, View v):
        cdef uint64_t keys[MOST_KEYS]
        cdef Charge charge
        cdef int i, n = self.limit.by.keys(v, keys)
        if v.charges is None:
            v.charges = []
        for i in range(n):
            charge = Charge.__new__(Charge)
            charge.limit = self.limit
            charge.key = keys[i]
            v.charges.append(charge)
        return None
