"""What an operator follows live: records of requests that end, or each step of some requests.

`gateway logs`, `gateway top` and `gateway trace` send the command `tail` with a Wanted in JSON to the operator socket
(gateway/supervisor/operator_socket.py). The answer is one line, {"tail": true}, with a descriptor: the reading end of a
socket of packets (SOCK_SEQPACKET) into which the workers write, the supervisor never. A packet has whole lines, each a
JSON object:

* a record, with the fields of the access log in JSON and `session`, `class` and `rule`;
* {"lost": n}: so many records before this line were left out, because the reader was slow or more than `per_second`;
* {"step": NAME, "request_id": ID, "ms": since the request came, ...}: a step of a request, if steps were wanted; its
  record follows as the last one.

The tail goes on over reloads and the deaths of workers. It ends when the connection to the operator socket is closed,
or when the gateway has ended: the end of the packets. In an upgrade the connection brings the line {"successor": PID};
the successor is asked again, and what runs in the old one is followed until its packets end.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.config.expression import Expression, Node, parse
from gateway.config.problem import Fault, suggest
from gateway.outcome import OUTCOMES
from gateway.process.tail_limits import MOST_FOLLOWED
from gateway.system import plain_json

_OF_SITE: Final = {"load", "up", "sessions", "site_load", "map"}
_NAMES: Final = [name for name, _, _ in OUTCOMES]
_KEYS: Final = {"when", "outcomes", "request_id", "steps", "most", "per_second"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests a tail is about: those for which everything given here holds."""

    when: Expression | None = None
    """About the request as it was received."""
    outcomes: frozenset[str] = frozenset()
    """Names of gateway.outcome; empty: any."""
    request_id: str = ""
    """Empty: any."""
    steps: bool = False
    """Each step of a request, in place of records alone."""
    most: int = 0
    """Requests of each worker; 0: no limit, but for steps, which need one."""
    per_second: int = 0
    """Records of each worker; 0: no limit."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what an operator sent. Raises ValueError, with a sentence for the operator."""
        try:
            said = plain_json.parse(text)
        except ValueError:
            raise ValueError("what tail is to follow is not JSON") from None
        if not isinstance(said, dict) or not said.keys() <= _KEYS:
            raise ValueError(f"what tail is to follow is not an object with some of: {', '.join(sorted(_KEYS))}")
        outcomes = said.get("outcomes", [])
        if not isinstance(outcomes, list) or not all(isinstance(name, str) for name in outcomes):
            raise ValueError("outcomes is not a list of names")
        for name in outcomes:
            if name not in _NAMES:
                raise ValueError(f"there is no outcome {name!r}{suggest(name, _NAMES)}")
        steps, most = _of(said, "steps", bool, False), _count(said, "most")  # noqa: FBT003 - the value, not a switch
        if steps and not 1 <= most <= MOST_FOLLOWED:
            raise ValueError(f"steps are followed of 1 to {MOST_FOLLOWED} requests: say how many by `most`")
        return cls(
            _expression(_of(said, "when", str, "")),
            frozenset(outcomes),
            _of(said, "request_id", str, ""),
            steps,
            most,
            _count(said, "per_second"),
        )

    def text(self) -> str:
        """What `parse` reads: one line of ASCII."""
        said: dict[str, Any] = {
            "when": self.when.text if self.when is not None else "",
            "outcomes": sorted(self.outcomes),
            "request_id": self.request_id,
            "steps": self.steps,
            "most": self.most,
            "per_second": self.per_second,
        }
        return json.dumps({key: value for key, value in said.items() if value})

    @classmethod
    def of(cls, when: str = "", **others: Any) -> Self:
        """Make one with an expression as text. Raises ValueError."""
        return cls(_expression(when), **others)


def _expression(text: str) -> Expression | None:
    if not text:
        return None
    try:
        node = parse(text)
    except Fault as fault:
        raise ValueError(f"the expression {text!r}, character {fault.offset + 1}: {fault}") from None
    for part in _nodes(node):
        if part.op in _OF_SITE:
            raise ValueError(f"{part.op}() is about the site: here an expression is about one request")
        if part.op == "var" and part.args[0] == "class":
            raise ValueError("the class is not known yet when a request comes: choose requests by what they carry")
    return Expression(text, node)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for arg in node.args:
        if isinstance(arg, Node):
            yield from _nodes(arg)
        elif isinstance(arg, tuple | list):
            for each in arg:
                if isinstance(each, Node):
                    yield from _nodes(each)


def _of(said: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = said.get(key, default)
    if type(value) is not kind:
        raise ValueError(f"{key} is not {'true or false' if kind is bool else 'text'}")
    return value


def _count(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key, 0)
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{key} is not a whole number from 0 on")
    return value
