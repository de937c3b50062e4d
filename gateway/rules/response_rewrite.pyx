"""Location and cookies of answers, changed from how a server sees itself to how clients see it."""

import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from gateway.rules.actions cimport Step, names_host
from gateway.rules.template cimport Template
from gateway.rules.view cimport Edits, View

from gateway.rules.actions import of_responses


cdef class RewriteResponse(Step):
    """Each argument has pairs of a text and the Template of what replaces it; the first text that fits counts.

    location: how a Location begins. cookie_path: how the Path of a Set-Cookie begins. cookie_domain: its whole Domain,
    whatever its case, with or without a leading dot (RFC 6265 section 5.2.3). An attribute that a cookie has several
    times is changed each time, because the last one counts (section 5.3). ranges: as of EditHeaders.
    """
    cdef list edits                 # (name of the field, pattern, Templates by the number of the alternative)
    cdef tuple ranges

    def __init__(self, location, cookie_path, cookie_domain, *, ranges=()):
        self.ranges = tuple(ranges)
        self.edits = []
        what = []
        for name, shown, pairs, before, after in (
            (b"Location", "Location", location, b"^()", b""),
            (b"Set-Cookie", "Path of cookies", cookie_path, rb"(?i:(;[ \t]*path[ \t]*=[ \t]*))", b""),
            (b"Set-Cookie", "Domain of cookies", cookie_domain, rb"(?i:(;[ \t]*domain[ \t]*=[ \t]*)\.?)",
             rb"(?=[ \t]*(?:;|$))"),
        ):
            pairs = list(pairs)
            if pairs:
                either = b"|".join([b"(" + re.escape(text.encode()) + b")" for text, _ in pairs])
                fold = b"(?i:" if shown.startswith("Domain") else b"(?:"
                pattern = re.compile(before + fold + either + b")" + after)
                self.edits.append((name, pattern.search, [template for _, template in pairs]))
                what.append(shown)
        self.text = f"rewrite {', '.join(what)} ({of_responses(self.ranges)})"

    cdef object run(self, View v):
        cdef Edits edits = v.edits(True)
        if self.ranges:
            edits = edits.of_status(self.ranges)
        for name, search, templates in self.edits:
            texts = [(<Template>template).render(v) for template in templates]
            if name == b"Location":
                edits.edit(name, search, _location(texts), False)
            else:
                edits.edit(name, search, _replacement(texts), True)
        return None


# What takes the place of a match, by the number of the alternative; made now, as the response comes later.

def _replacement(texts):
    return lambda match: match.group(1) + texts[match.lastindex - 2]


def _location(texts):
    """As _replacement, for a Location. A replacement that is a path gets "/." in front if the whole would begin with
    "//", which browsers read as another host."""
    def replaced(match):
        cdef bytes text = texts[match.lastindex - 2]
        cdef bytes made = text + match.string[match.end():]
        return b"/." + text if names_host(PyBytes_AS_STRING(made), PyBytes_GET_SIZE(made)) else text
    return replaced
