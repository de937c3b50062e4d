"""Files of Apache's rules: what is not supported is said with its line, never left out."""

import pytest

from gateway.config.apache import ApacheError, parse


def read(name: str) -> bytes:
    return b"a b\n" if name == "m.txt" else b""


@pytest.mark.parametrize("text, line, reason", [
    ("Options -Indexes", 1, "Options is not supported: only RewriteEngine, -Base, -Cond"),
    ("RewriteEngine On\nRewriteOptions Inherit", 2, "RewriteOptions is not supported"),
    ("RewriteEngine maybe", 1, "RewriteEngine must be on or off"),
    ("<Directory /x>\nRewriteEngine on\n</Directory>", 1, "<Directory> is not supported"),
    ("<IfModule mod_rewrite.c>\nRewriteEngine on", 2, "<IfModule> is not closed"),
    ("</IfModule>", 1, "</IfModule> has no matching opening tag"),
    ("<IfModule mod_headers.c>\nHeader set A b\n</IfModule>", 2, "Header is not supported"),
    ("\n# x\nRewriteRule ^a", 3, "takes 2 to 3 arguments, not 1"),
    ('RewriteRule "^a b', 1, "a quote is not closed"),
    ("RewriteRule ^a( b", 1, "not a regular expression: missing )"),
    ("RewriteRule ^a b L", 1, "flags must be in brackets: [L]"),
    ("RewriteRule ^a b [LL]", 1, "there is no flag LL"),
    ("RewriteRule ^a b [H=x]", 1, "the flag H is not supported: there are no handlers here"),
    ("RewriteRule ^a b [T]", 1, "T takes a value"),
    ("RewriteRule ^a b [L=1]", 1, "L takes no value"),
    ("RewriteRule ^a b [S]", 1, "S takes a value"),
    ("RewriteRule ^a b [R=99]", 1, "R=99 is not a status"),
    ("RewriteRule ^a b [P]", 1, "P needs a fixed host"),
    ("RewriteRule ^a http://$1/ [P]", 1, "P needs a fixed host"),
    ("RewriteRule ^a %{HTTP_HOSTS}", 1, "the variable HTTP_HOSTS is not supported (did you mean HTTP_HOST?)"),
    ("RewriteRule ^a %{LA-U:REMOTE_USER}", 1, "the gateway does not know who has logged in"),
    ("RewriteRule ^a %{SERVER_ADDR}", 1, "the variable SERVER_ADDR is not supported: a gateway has several addresses"),
    ("RewriteRule ^a %{SSL:SSL_PROTOCOL}", 1, "%{SSL:SSL_PROTOCOL} is not supported"),
    ("RewriteRule ^a %{HTTP_HOST", 1, "%{HTTP_HOST is not closed"),
    ("RewriteRule ^a ${m:$1}", 1, "there is no RewriteMap m"),
    ("RewriteMap words txt:m.txt\nRewriteRule ^a ${word:$1}", 2, "there is no RewriteMap word (did you mean words?)"),
    ("RewriteMap m prg:/bin/sh", 1, "maps are txt, rnd or int, and this is prg"),
    ("RewriteMap m int:upper", 1, "there is no internal function upper (did you mean toupper?)"),
    ("RewriteCond %{HTTPS} on", 1, "RewriteCond is not followed by a RewriteRule"),
    ("RewriteCond %{HTTPS} -q\nRewriteRule a b", 1, "there is no test -q"),
    ('RewriteCond expr "true"\nRewriteRule a b', 1, "Apache expressions are not supported"),
    ("RewriteCond %{HTTPS} on [XX]\nRewriteRule a b", 1, "there is no flag XX"),
    ("RewriteBase x", 1, "RewriteBase must begin with /"),
])  # fmt: skip
def test_mistakes(text: str, line: int, reason: str) -> None:
    with pytest.raises(ApacheError) as caught:
        parse(text.encode(), read)
    assert [number for number, _ in caught.value.problems] == [line]
    assert reason in caught.value.problems[0][1]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ApacheError) as caught:
        parse(b"Options x\nRewriteRule ^a b [XX]\nAddType y", read)
    assert [line for line, _ in caught.value.problems] == [1, 2, 3]


def test_what_is_off_or_for_other_modules_is_not_there() -> None:
    assert parse(b"RewriteRule ^a b\nRewriteEngine On\nRewriteEngine Off\nRewriteRule ^c d", read).rules == []
    rules = parse(
        b"RewriteEngine on\n<IfModule !mod_rewrite.c>\nErrorDocument 404 /x\n</IfModule>\nRewriteRule \\\n ^a\\ b  /c",
        read,
    )
    assert [(rule.line, rule.pattern) for rule in rules.rules] == [(5, "^a\\ b")]


def test_arguments_and_flags() -> None:
    (rule,) = parse(b'RewriteEngine on\nRewriteRule "^a b$" \'/c d\' "[E=X:1,E=Y:2,R=permanent,NC]"', read).rules
    assert rule.pattern == "^a b$"
    assert rule.to == (("text", "/c d", (), None),)
    assert dict(rule.flags) == {"R": "301", "NC": ""}
    assert [part[0][1] for part in rule.environment] == ["X:1", "Y:2"]
