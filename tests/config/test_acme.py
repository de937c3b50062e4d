"""`tls: acme:` of a frontend: what may be asked of an authority."""

from pathlib import Path

import pytest

from tests.config.conftest import Load, Refuse

ACME = """\
node: gw1
frontends:
  - listen: "127.0.0.1:80"
  - listen: "127.0.0.1:443"
    tls:
      {tls}
      acme: {acme}
backends:
  app:
    servers: ["127.0.0.1:1"]
{more}
"""


def text(acme: str, tls: str = "policy: modern", more: str = "") -> str:
    return ACME.format(acme=acme, tls=tls, more=more)


def names(*items: str, more: str = "") -> str:
    return f'{{directory: "https://acme.example/dir", names: [{", ".join(items)}]{more}}}'


def test_names_and_addresses_in_their_canonical_form_without_other_certificates(load_text: Load) -> None:
    site = load_text(text(names("WWW.Example.com.", '"2001:DB8:0::5"', "203.0.113.5"))).site
    tls = site.frontends[1].tls
    assert tls is not None
    assert tls.acme is not None
    assert tls.acme.names == (("www.example.com",), ("2001:db8::5",), ("203.0.113.5",))
    assert (tls.acme.challenge, tls.acme.key, tls.acme.staging) == ("http-01", "ecdsa", "")
    assert site.gets_certificates


def test_a_known_authority_has_a_staging_directory_that_can_be_left_out(load_text: Load) -> None:
    real = "directory: https://acme-v02.api.letsencrypt.org/directory, names: [a.example.com]"
    for more, staging in (
        ("", "https://acme-staging-v02.api.letsencrypt.org/directory"),
        (", staging: false", ""),
        (", staging: https://try.example/dir", "https://try.example/dir"),
    ):
        tls = load_text(text(f"{{{real}{more}}}")).site.frontends[1].tls
        assert tls is not None
        assert tls.acme is not None
        assert tls.acme.staging == staging


@pytest.mark.parametrize(
    "acme, message",
    [
        (names('»"*.example.com"'), "wildcards by DNS-01 only"),
        (names("»localhost"), "not a name that an authority certifies"),
        (names("»a_b.example.com"), "not a name that an authority certifies"),
        (names('»"1.2.3"'), "not a name that an authority certifies"),
        (names("»bücher.example"), "xn--"),
        (names('»"a.example.com:443"'), "not a name that an authority certifies"),
        (names("a.example.com", "»A.example.com"), "a.example.com is there twice"),
        (names("a.example.com", "[b.example.com, »a.example.com]"), "a.example.com is there twice"),
        (names("»[" + ", ".join(f"n{i}.example.com" for i in range(101)) + "]"), "at most 100 names in a certificate"),
        (names("a.example.com", "»[]"), "expected at least one"),
        (names("a.example.com", more=", external_account: »{id: x}"), "key_file is missing"),
        ("{directory: »http://acme.example/dir, names: [a.example.com]}", "expected https://HOST/PATH"),
        (names("a.example.com", more=", staging: »https://acme.example/dir"), "directory itself"),
        (names("a.example.com", more=", email: »nobody"), "hostmaster@example.com"),
        (names("a.example.com", more=", challenge: »dns-01"), "expected one of http-01, tls-alpn-01"),
        (names("a.example.com", more=", ca: »missing.crt"), "cannot read"),
    ],
)
def test_what_an_authority_would_refuse_is_an_error_at_its_place(refuse: Refuse, acme: str, message: str) -> None:
    refuse(text(acme), message)


def test_what_could_not_be_validated_or_would_reach_no_client(refuse: Refuse) -> None:
    refuse(text(names("»203.0.113.5"), "strict_sni: true"), "strict_sni refuses")
    refuse(
        text(names("a.example.com", more=", challenge: »tls-alpn-01"), "require_client_cert: true"),
        "handshakes without a client's certificate",
    )


def test_a_list_within_the_list_is_one_certificate(load_text: Load) -> None:
    tls = load_text(text(names("a.example.com", "[b.example.com, WWW.b.example.com]"))).site.frontends[1].tls
    assert tls is not None
    assert tls.acme is not None
    assert tls.acme.names == (("a.example.com",), ("b.example.com", "www.b.example.com"))


@pytest.mark.parametrize(
    "key, message",
    [("not base64 at all !", "expected base64url"), ("c2hvcnQ-c2g", "at least 16 bytes")],
)
def test_the_key_of_an_external_account_is_read_and_checked(
    refuse: Refuse, load_text: Load, tmp_path: Path, key: str, message: str
) -> None:
    path = tmp_path / "external.key"
    path.touch(mode=0o600)
    more = ", external_account: {id: kid-1, key_file: »external.key}"
    path.write_text(key)
    refuse(text(names("a.example.com", more=more)), message)
    path.write_text("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n")
    load_text(text(names("a.example.com", more=more.replace("»", ""))))


def test_a_frontend_needs_certificates_or_acme(refuse: Refuse) -> None:
    site = text(names("a.example.com")).replace("      policy", "      »policy")
    refuse(
        "\n".join(line for line in site.split("\n") if "acme:" not in line),
        "certificates is missing: name a certificate with its key, or let acme get some",
    )


def test_gateways_of_a_cluster_need_a_port_to_share_certificates(refuse: Refuse, tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    key.touch(mode=0o600)
    key.write_bytes(b"0123456789abcdef")
    more = "cluster: {key_file: cluster.key, nodes: {gw1: 10.0.0.1, gw2: 10.0.0.2}}"
    refuse(text(names("a.example.com"), more=more).replace("acme:", "»acme:"), "set cluster: listen")


def test_one_name_is_got_in_one_way(refuse: Refuse) -> None:
    again = f"""\
  - listen: "127.0.0.1:444"
    tls:
      acme: {names("»a.example.com", more=", key: rsa")}
"""
    refuse(text(names("a.example.com")).replace("backends:\n", again + "backends:\n"), "in another way")
