"""Which server may read reports: loopback is free, every other host is asked for by name."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url

from greenrfm.distill.hosts import Host, check_endpoint
from greenrfm.errors import UserError


@pytest.mark.parametrize(
    ("url", "name", "port"),
    [
        ("http://127.0.0.1:11434/v1", "127.0.0.1", 11434),
        ("http://127.8.9.10/v1", "127.8.9.10", 80),
        ("http://localhost:8000", "localhost", 8000),
        ("HTTP://LocalHost:8000", "localhost", 8000),
        ("https://localhost/v1/", "localhost", 443),
        ("http://[::1]:1234/v1", "::1", 1234),
        ("http://[0:0:0:0:0:0:0:1]/v1", "::1", 80),
    ],
)
def test_this_machine_is_free(url: str, name: str, port: int) -> None:
    host = check_endpoint(url)
    assert (host.name, host.port, host.remote) == (name, port, False)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1",
        "https://localhost.evil.com/v1",
        "https://127.0.0.1.evil.com/v1",
        "https://evil-localhost/v1",
        "https://sub.localhost/v1",
        "https://localhost.localdomain/v1",
        "https://localtest.me/v1",  # resolves to 127.0.0.1, until its owner changes it
        "https://ip6-localhost/v1",
        "https://192.168.1.20/v1",
        "https://10.0.0.1/v1",
        "https://169.254.169.254/v1",
        "https://[fe80::1]/v1",
        "https://[2001:db8::1]/v1",
        "https://xn--lcalhost-y9i.com/v1",
        "https://128.0.0.1/v1",
    ],
)
def test_every_other_host_needs_its_name(url: str) -> None:
    name = (urlsplit(url).hostname or "").lower()
    with pytest.raises(UserError, match="--allow-host") as refused:
        check_endpoint(url)
    assert f"--allow-host {name}" in str(refused.value)
    assert check_endpoint(url, [name]).remote


@pytest.mark.parametrize(
    "entry",
    ["com", "example.com", ".example.com", "*", "*.example.com", "api.example.com.evil.com", "https://api.example.com"],
)
def test_an_allowed_host_is_an_exact_name(entry: str) -> None:
    with pytest.raises(UserError, match="--allow-host"):
        check_endpoint("https://api.example.com/v1", [entry])


def test_an_allowed_host_may_differ_in_case_and_brackets() -> None:
    assert check_endpoint("https://API.example.com/v1", ["api.Example.com"]).name == "api.example.com"
    assert check_endpoint("https://[2001:db8::1]/v1", ["[2001:DB8:0::1]"]).name == "2001:db8::1"


def test_plain_http_to_another_host_needs_one_more_flag() -> None:
    with pytest.raises(UserError, match="--allow-plain-http"):
        check_endpoint("http://gpu.example.org:8000/v1", ["gpu.example.org"])
    host = check_endpoint("http://gpu.example.org:8000/v1/", ["gpu.example.org"], plain_http=True)
    assert host == Host("gpu.example.org", 8000, "http", True, "http://gpu.example.org:8000/v1")
    with pytest.raises(UserError, match="--allow-host"):
        check_endpoint("http://gpu.example.org:8000/v1", plain_http=True)


AMBIGUOUS = [
    "",
    "localhost:11434/v1",
    "127.0.0.1:11434",
    "//127.0.0.1/v1",
    "ftp://127.0.0.1/v1",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http:///v1",
    "http://:8000/v1",
    "http://127.0.0.1:port/v1",
    "http://127.0.0.1:99999/v1",
    "http://127.0.0.1:0/v1",
    "http://127.0.0.1\\@evil.com/v1",
    "http://evil.com\\.127.0.0.1/v1",
    "http://127.0.0.1\t.evil.com/v1",
    "http://127.0.0.1\n/v1",
    " http://127.0.0.1/v1",
    "http://local host/v1",
    "http://%6cocalhost/v1",
    "http://localhost%00.evil.com/v1",
    "http://[::1%25eth0]/v1",
    "http://[::1].evil.com/v1",
    "http://[::1/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[::ffff:7f00:1]/v1",
    "http://[2002:7f00:1::]/v1",
    "http://2130706433/v1",
    "http://017700000001/v1",
    "http://0x7f000001/v1",
    "http://0x7f.0.0.1/v1",
    "http://0177.0.0.1/v1",
    "http://127.0.0.01/v1",
    "http://127.1/v1",
    "http://127.0.0.256/v1",
    "http://1.2.3.4.5/v1",
    "http://evil.0x7f/v1",
    "http://0.0.0.0:11434/v1",
    "http://[::]:11434/v1",
    "http://0/v1",
    "http://localhost./v1",
    "http://127.0.0.1./v1",
    "http://localhost../v1",
    "http://.localhost/v1",
    "http://a..b/v1",
    "http://-a.com/v1",
    "http://loc\u0430lhost/v1",  # a Cyrillic letter
    "http://\uff4cocalhost/v1",  # a full-width letter
    "http://127\u30020\u30020\u30021/v1",  # ideographic full stops
    "http://\u2460.0.0.1/v1",
    "http://127.0.0.1/v1?key=secret",
    "http://127.0.0.1/v1#@evil.com",
    "http://127.0.0.1?@evil.com",
]


@pytest.mark.parametrize("url", AMBIGUOUS, ids=ascii)
def test_what_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="the endpoint"):
        check_endpoint(url, [url, "localhost", "127.0.0.1"], plain_http=True)


def test_homographs_are_told_in_punycode_and_match_nothing_else() -> None:
    with pytest.raises(UserError, match=r"xn--xample-2of\.com"):
        check_endpoint("https://\u0435xample.com/v1", ["example.com", "\u0435xample.com"])
    with pytest.raises(UserError, match="--allow-host"):
        check_endpoint("https://xn--xample-2of.com/v1", ["example.com", "\u0435xample.com"])
    assert check_endpoint("https://xn--xample-2of.com/v1", ["xn--xample-2of.com"]).remote


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@api.example.com/v1",
        "http://secret@127.0.0.1/v1",
        "http://127.0.0.1:secret@evil.com/v1",
        "http://127.0.0.1/v1?key=secret",
        "https://api.example.com/secret/v1",
        "secret",
    ],
)
def test_a_message_holds_the_host_and_nothing_else_of_the_address(url: str) -> None:
    with pytest.raises(UserError) as refused:
        check_endpoint(url)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


HOSTS = st.sampled_from(["127.0.0.1", "localhost", "[::1]", "evil.com", "0x7f.1", "127.1", "\uff11"])
PIECES = st.text("/\\@:?#%.[]; \t", max_size=3)


@given(st.sampled_from(["http://", "https://", "http:/", "http:\\\\"]), PIECES, HOSTS, PIECES, HOSTS, PIECES)
def test_whatever_passes_as_this_machine_is_this_machine_for_the_http_library(
    scheme: str, before: str, first: str, between: str, second: str, after: str
) -> None:
    url = scheme + before + first + between + second + after
    with suppress(UserError):
        host = check_endpoint(url)
        assert not host.remote
        for text in (url, host.url):
            assert (parse_url(text).host or "").strip("[]") in ("127.0.0.1", "localhost", "::1")


@given(st.text(max_size=30))
def test_any_text_is_passed_or_refused_with_a_sentence(text: str) -> None:
    for url in (text, f"http://{text}"):
        with suppress(UserError):
            check_endpoint(url)
