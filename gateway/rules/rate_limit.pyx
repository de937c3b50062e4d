"""Rate limits as a site file says them: what requests are counted by, and what a client is told that is over one.

Whether a request may go is for qos/rates.pyx to say, when it is admitted. Here nothing is counted.
"""

from hashlib import blake2b
from math import ceil, floor

from gateway.rules.template cimport Template
from qos.rates cimport rate_of


cdef class RateLimit:
    """rate: requests per second, from qos.rates.SLOWEST to FASTEST. burst: how many of them at once, at least 1.

    per: a kind of config.rate_limit.Per, with `field` or `template`; None: all share the rate. delay: seconds that a
    request may be made to wait. secret: 16 bytes, of the table in which it is counted.
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
        self.text = f"rate {_shown(rate)}, burst {burst}"
        self.text += f", per {shown}" if shown else ""
        self.text += f", delayed for up to {delay:g} s" if delay else ""
        self.text += ", dry run" if dry_run else ""
        # In words of the draft: so many requests in so many seconds. What fits into whole seconds at the rate.
        window = max(1, ceil(burst / rate - 1e-9))
        quota = max(burst, floor(rate * window + 1e-9))
        self.policy = f'RateLimit-Policy: "{name}";q={quota};w={window}\r\n'.encode()

    cdef bytes refusal(self, int64_t wait):
        """Header lines for a client that is over the limit, `wait` ns too early.

        draft-ietf-httpapi-ratelimit-headers-10: r is what is left, t the seconds until there is more.
        """
        cdef int64_t seconds = max(1, (wait + 999_999_999) // 1_000_000_000)
        return b'Retry-After: %d\r\n%sRateLimit: "%s";r=0;t=%d\r\n' % (
            seconds, self.policy, self.name.encode(), seconds)

    # For tests.

    def refused(self, int64_t wait):
        """As `refusal`."""
        return self.refusal(wait)


def _shown(rate):
    """A rate as in a site file."""
    for unit, seconds in (("s", 1), ("m", 60), ("h", 3600)):
        if abs(rate * seconds - round(rate * seconds)) < 1e-6:
            return f"{round(rate * seconds)}/{unit}"
    return f"{rate:.3g}/s"


cdef class CountRate(Step):
    """The request is counted by a limit once it is admitted; until then, what it is counted by is noted."""

    def __init__(self, RateLimit limit):
        self.limit = limit
        self.text = limit.text

    cdef object run(self, View v):
        cdef Charge charge = Charge.__new__(Charge)
        charge.limit = self.limit
        charge.key = self.limit.by.key(v)
        if v.charges is None:
            v.charges = []
        v.charges.append(charge)
        return None
