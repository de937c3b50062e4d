import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.document import Document, SyntaxFault
from gateway.config.problem import Finding, Loc


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", 1),
        ("-7", -7),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        # What YAML 1.1 would read otherwise.
        ("off", "off"),
        ("no", "no"),
        ("22:30", "22:30"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        (".inf", ".inf"),
        ("1.2.3.4", "1.2.3.4"),
        ("9999999999999999999", 1e19),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    read = Document(f"[{text}]").data[0]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_text() -> None:
    assert Document("{502: a, true: b, '': c}").data == {"502": "a", "true": "b", "": "c"}


PLACES: list[tuple[Loc, bool, tuple[int, int]]] = [
    ((), False, (0, 0)),
    (("a",), True, (0, 0)),
    (("a",), False, (0, 3)),
    (("b", 1, "c"), True, (2, 5)),
    (("b", 1, "c"), False, (2, 8)),
    (("b", 1, "none"), True, (2, 4)),
    (("b", 7), False, (1, 3)),
]


@pytest.mark.parametrize("loc, key, place", PLACES)
def test_places(loc: Loc, key: bool, place: tuple[int, int]) -> None:  # noqa: FBT001 - a column of the table
    document = Document("a: 1\nb: [x,\n    {c: 2}]\n")
    assert document.place(Finding(loc, "", key=key))[1:] == place


def test_an_offset_leads_into_a_text() -> None:
    document = Document("plain: añb\nquoted: 'abc'\nescaped: \"a\\tbc\"\nfolded: >\n  abc\n")

    def column(key: str, offset: int) -> int:
        return document.place(Finding((key,), "", offset=offset)).column

    assert column("plain", 2) == 9
    assert column("quoted", 2) == 11
    assert column("escaped", 1) == 11
    # Past an escape the text no longer looks like the value: the start has to do.
    assert column("escaped", 2) == 9
    assert column("folded", 2) == 8


def test_aliases_and_merges() -> None:
    document = Document("a: &x {k: 1, l: 2}\nb: {<<: *x, l: 3}\nc: {<<: [*x, {m: 4}]}\nd: *x\n")
    assert document.data["b"] == {"k": 1, "l": 3}
    assert document.data["c"] == {"k": 1, "l": 2, "m": 4}
    assert document.data["d"] is document.data["a"]
    assert document.place(Finding(("b", "k"), ""))[1:] == (0, 10)
    assert document.place(Finding(("d",), ""))[1:] == (3, 3)


def test_a_key_given_twice() -> None:
    document = Document("a: 1\nb: {c: 1,\n    c: 2}\na: 3\n")
    assert document.data == {"a": 1, "b": {"c": 1}}
    assert [(message, place[1:]) for message, place in document.duplicates] == [
        ("c is given twice (first on line 2)", (2, 4)),
        ("a is given twice (first on line 1)", (3, 0)),
    ]


@pytest.mark.parametrize(
    "text, message, place",
    [
        ("", "the file is empty", (0, 0)),
        ("# nothing\n", "the file is empty", (0, 0)),
        ("a: 1\nb: [1\nc: 2\n", "not valid YAML", (2, 1)),
        ("a: 1\n\tb: 2\n", "not valid YAML", (1, 0)),
        ("a: b: c\n", "not valid YAML: mapping values are not allowed", (0, 4)),
        ("a: 1\nb: x\x07\n", "a control character", (1, 4)),
        ("a: 1\n---\nb: 1\n", "a second document", (1, 0)),
        ("a: !!python/name:os.system x\n", "is not supported", (0, 3)),
        ("a: !!map {}\n", "the tag tag:yaml.org,2002:map is not supported", (0, 3)),
        ("? [a]\n: b\n", "expected text as the key", (0, 2)),
        ("a: &a 1\n*a : 2\n", "expected text as the key", (1, 0)),
        ("a: *nothing\n", "", (0, 3)),
        ("a: &a [*a]\n", "*a would contain itself", (0, 7)),
        ("a: {<<: 1}\n", "<< takes a mapping or a list of mappings", (0, 8)),
        ("[" * 33 + "]" * 33, "nested too deeply", (0, 32)),
    ],
)
def test_not_one_document(text: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(SyntaxFault) as caught:
        Document(text)
    assert message in str(caught.value)
    assert caught.value.place[1:] == place


def test_deep_nesting_is_cheap_to_refuse() -> None:
    before = time.process_time()
    with pytest.raises(SyntaxFault, match="nested too deeply"):
        Document("[" * 1_000_000)
    assert time.process_time() - before < 2


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(SyntaxFault, match="aliases make the file too large"):
        Document("\n".join(lines))


# PyYAML writes YAML 1.1: the text 1e3 without quotes, a number in YAML 1.2, and \x85 as a line break.
words = st.text(st.characters(codec="utf-8", exclude_characters="eE\x85\u2028\u2029"), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a<b", max_size=2), inner),
    max_leaves=20,
)


@given(plain)
def test_it_reads_its_own_output(data: object) -> None:
    assert Document(yaml.safe_dump([data], allow_unicode=True)).data == [data]


@given(st.text(alphabet="ab:-[]{},&*<!|>'\"#\n \t?%@\\", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        line = Document(text).place(Finding((0, "a"), "")).line
    except SyntaxFault as fault:
        line = fault.place.line
    assert 0 <= line <= text.count("\n") + 1
