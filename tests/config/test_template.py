import pytest

from gateway.config.problem import Fault
from gateway.config.template import Header, log_parts, parts


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", (("", None),)),
        ("plain", (("plain", None),)),
        ("{a}", (("", "a"), ("", None))),
        ("x{a}{b} y", (("x", "a"), ("", "b"), (" y", None))),
        ("{{{a}}}", (("{", "a"), ("}", None))),
        ('{{"k": {a}}}', (('{"k": ', "a"), ("}", None))),
    ],
)
def test_parts(text: str, expected: tuple[tuple[str, str | None], ...]) -> None:
    assert parts(text, ("a", "b")) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{host} x", (("", "host"), (" x", None))),
        ("{host}{header:X-Tenant}", (("", "host"), ("", ("header", "x-tenant")), ("", None))),
        ("{{header:X}} {header:a}", (("{header:X} ", ("header", "a")), ("", None))),
    ],
)
def test_parts_of_a_log_line(text: str, expected: tuple[tuple[str, str | Header | None], ...]) -> None:
    assert log_parts(text, ("host",)) == expected


@pytest.mark.parametrize("field", ["header:", "header:a b", "cookie:c", "header"])
def test_log_line_has_headers_alone_by_their_names(field: str) -> None:
    with pytest.raises(Fault, match="unknown field"):
        log_parts(f"{{{field}}}", ("host",))


@pytest.mark.parametrize(
    "text, offset, message",
    [
        ("ab {hst}", 3, "unknown field {hst} (did you mean host?)"),
        ("{}", 0, "unknown field {}; there are host, uri"),
        ("{host", 0, "a lone {; write {{ for a brace"),
        ("{host} }", 7, "a lone }; write }} for a brace"),
        ("{{host}", 6, "a lone }"),
    ],
)
def test_faults_say_where(text: str, offset: int, message: str) -> None:
    with pytest.raises(Fault) as caught:
        parts(text, ("host", "uri"))
    assert message in str(caught.value)
    assert caught.value.offset == offset
