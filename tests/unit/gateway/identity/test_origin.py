"""Tests of the checks of `Host` and `Origin`."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from gateway.identity.origin import (
    check_host,
    check_origin,
    check_socket_origin,
    check_stated_origin,
    header_values,
    is_loopback,
)
from gateway.identity.refused_origins import PERIOD_S, RefusedOrigins
from gateway.protocol.errors import ApiError
from tests.credentials import SECRET
from tests.in_process import make_settings

DEFAULT = make_settings()
OPEN = make_settings(insecure=True)
LISTED = make_settings(allowed_origins=("https://app.example", "http://localhost:3000"))


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in values.items()]


LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1:8000",
    "localhost",
    "localhost:1",
    "LOCALHOST:8000",
    "LocalHost",
    "[::1]",
    "[::1]:8000",
    "::1",
    "app.localhost",
    "app.localhost:8000",
]
NOT_LOOPBACK = [
    "",
    ":8000",
    "example.com",
    "example.com:8000",
    "127.0.0.1.example.com",
    "localhost.example.com",
    "notlocalhost",
    "localhost.",
    "127.0.0.1@example.com",
    "example.com@127.0.0.1",
    "user:pass@localhost",
    "127.0.0.1/example.com",
    "localhost?example.com",
    "localhost#example.com",
    "localhost\\example.com",
    "[::1",
    "[::2]",
    "[::ffff:10.0.0.1]",
    "0.0.0.0",
    "10.0.0.1",
    "[::1]example.com",
    "example.com@app.localhost",
    "example.com/app.localhost",
    "localhost:port",
    "localhost:80 ",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_hosts_are_recognized(host: str) -> None:
    """This covers IPv4, IPv6 and names, in upper and lower case, with and without a port."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", NOT_LOOPBACK)
def test_other_hosts_are_not_loopback(host: str) -> None:
    """This covers names that contain a loopback name, and hosts with user information or a path."""
    assert not is_loopback(host)


@pytest.mark.parametrize("host", NOT_LOOPBACK)
def test_with_auth_off_only_loopback_hosts_are_served(host: str) -> None:
    """A page of another site can't reach the gateway with a name that resolves to this machine.

    With `TURNWIRE_INSECURE=1`, every host is served.
    """
    with pytest.raises(ApiError) as refused:
        check_host(headers(host=host), DEFAULT)
    assert refused.value.code == "forbidden"
    check_host(headers(host=host), OPEN)


PROXY_HEADERS = [
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-original-forwarded-for"),
    *("x-real-ip", "x-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "fastly-client-ip", "true-client-ip"),
    *("x-forwarded", "x_forwarded_for", "x-envoy-external-address", "x-azure-clientip", "x-appengine-user-ip"),
    *("client-ip", "wl-proxy-client-ip", "do-connecting-ip", "fly-client-ip", "cdn-loop", "tailscale-user-login"),
    *("cf-ray", "x_real_ip", "x-azure-socketip", "x-remote-ip"),
]


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_with_auth_off_proxied_requests_are_refused(name: str) -> None:
    """A proxy's client may be on another machine. With auth, or with `TURNWIRE_INSECURE=1`, the request is served."""
    given = [*headers(host="localhost"), (name.encode(), b"")]
    with pytest.raises(ApiError, match=rf"\({name}\).*TURNWIRE_AUTH.*TURNWIRE_INSECURE=1") as refused:
        check_host(given, DEFAULT)
    assert refused.value.code == "forbidden"
    check_host(given, OPEN)
    check_host(given, make_settings(auth="jwt", jwt_secret=SECRET))


SIMILAR_HEADERS = ["accept", "x-forwarder", "viable", "x-forward", "not-via", "max-forwards", "x-request-id", "zip"]


@pytest.mark.parametrize("name", SIMILAR_HEADERS)
def test_similar_headers_are_not_proxy_headers(name: str) -> None:
    """Only whole names and whole words count."""
    check_host([*headers(host="localhost"), (name.encode(), b"for=1.2.3.4")], DEFAULT)


def test_exactly_one_host_header_is_required() -> None:
    """A missing or duplicate `Host` is refused."""
    check_host(headers(host="localhost:8000"), DEFAULT)
    for wrong in ([], [*headers(host="localhost"), *headers(host="example.com")]):
        with pytest.raises(ApiError):
            check_host(wrong, DEFAULT)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://LOCALHOST:8000", "localhost:8000"),
        ("https://app.example", "APP.example"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_pages_own_origin_may_connect(origin: str, host: str) -> None:
    """The origin has the host and port of the request."""
    check_origin(headers(origin=origin, host=host), DEFAULT)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "127.0.0.1:8000"),
        ("http://127.0.0.1", "127.0.0.1:8000"),
        ("http://127.0.0.1:8001", "127.0.0.1:8000"),
        ("http://127.0.0.1:80000", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000.example.com", "127.0.0.1:8000"),
        ("http://example.com@127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("null", "127.0.0.1:8000"),
        ("null", "null"),
        ("", ""),
        ("", "127.0.0.1:8000"),
        ("file://127.0.0.1:8000", "127.0.0.1:8000"),
        ("chrome-extension://abc", "abc"),
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://app.example.", "app.example"),
        ("https://app.example", "127.0.0.1:8000"),
    ],
)
def test_another_origin_is_refused(origin: str, host: str) -> None:
    """This covers other schemes, hosts and ports, and an empty origin."""
    with pytest.raises(ApiError) as refused:
        check_origin(headers(origin=origin, host=host), DEFAULT)
    assert refused.value.code == "forbidden_origin"


def test_an_allowed_origin_may_connect() -> None:
    """Scheme, host and port must match the operator's list exactly."""
    for origin in LISTED.allowed_origins:
        check_origin(headers(origin=origin, host="127.0.0.1:8000"), LISTED)
    for wrong in ("http://app.example", "https://app.example:444", "http://localhost"):
        with pytest.raises(ApiError):
            check_origin(headers(origin=wrong, host="127.0.0.1:8000"), LISTED)


def test_a_request_without_an_origin_is_accepted() -> None:
    """Servers and native clients send no `Origin`."""
    check_origin(headers(host="127.0.0.1:8000"), DEFAULT)


def test_two_origin_headers_are_refused() -> None:
    """A client that sends two could hope that one is checked and the other used."""
    listed = headers(origin="https://app.example", host="127.0.0.1:8000")
    check_origin(listed, LISTED)
    for second in ("https://app.example", "https://evil.example"):
        with pytest.raises(ApiError):
            check_origin([*listed, (b"origin", second.encode())], LISTED)


def test_with_auth_on_a_socket_needs_an_origin_or_a_header() -> None:
    """A browser always sends an `Origin` with a socket, and never a header with a credential."""
    locked = make_settings(auth="jwt", jwt_secret="x" * 32, allowed_origins=("https://app.example",))
    check_host(headers(host="gateway.example"), locked)
    check_socket_origin(headers(host="gateway.example", authorization="Bearer x"), locked)
    check_socket_origin([*headers(host="gateway.example"), (b"x-api-key", b"x")], locked)
    check_socket_origin(headers(host="gateway.example", origin="https://app.example"), locked)
    check_socket_origin(headers(host="127.0.0.1"), DEFAULT)
    with pytest.raises(ApiError) as refused:
        check_socket_origin(headers(host="gateway.example"), locked)
    assert refused.value.code == "forbidden"
    with pytest.raises(ApiError):
        check_socket_origin(
            headers(host="gateway.example", authorization="Bearer x", origin="https://evil.example"), locked
        )


def test_all_values_of_a_header_are_returned() -> None:
    """The result is empty if no header has that name."""
    assert header_values([(b"a", b"1"), (b"b", b"2"), (b"b", b"\xe9")], b"b") == ["2", "\xe9"]
    assert header_values([], b"b") == []


def test_a_refused_origin_is_named_cut_and_plain() -> None:
    """The message names the origin and the setting. A long origin is cut, and its control characters aren't shown."""
    with pytest.raises(ApiError, match=r"http://localhost:5173 .*TURNWIRE_ALLOWED_ORIGINS"):
        check_origin(headers(origin="http://localhost:5173", host="127.0.0.1:8000"), DEFAULT)
    with pytest.raises(ApiError) as refused:
        check_origin(headers(origin="http://\x1b[31m" + "x" * 10_000, host="127.0.0.1:8000"), DEFAULT)
    message = refused.value.body.message
    assert message.isprintable()
    assert message.endswith("TURNWIRE_ALLOWED_ORIGINS.")


def test_a_stated_origin_is_checked_like_a_header() -> None:
    """A page whose proxy changes the host learns why its socket is refused: the query has its origin."""
    own = headers(host="127.0.0.1:8000")
    check_stated_origin(own, b"", DEFAULT)
    check_stated_origin(own, b"origin=http%3A%2F%2F127.0.0.1%3A8000", DEFAULT)
    for query in (b"origin=http%3A%2F%2Flocalhost%3A5173", b"origin=%ff%00", b"origin="):
        with pytest.raises(ApiError) as refused:
            check_stated_origin(own, query, DEFAULT)
        assert refused.value.code == "forbidden_origin"


def test_refused_origins_are_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that keeps trying doesn't fill the log: the next warning has the number of the others."""
    now = [100.0]
    monkeypatch.setattr("gateway.identity.refused_origins.time.monotonic", lambda: now[0])
    log = RefusedOrigins()
    with capture_logs() as entries:
        for _ in range(1000):
            log.note("http://a.example")
        now[0] += PERIOD_S
        log.note("http://b.example")
    assert [(entry["origin"], entry["suppressed"], entry["log_level"]) for entry in entries] == [
        ("http://a.example", 0, "warning"),
        ("http://b.example", 999, "warning"),
    ]
