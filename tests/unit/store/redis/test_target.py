"""A URL names one server, a cluster or a master behind Sentinels, with the options of redis-py."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio.connection import SSLConnection

from store.connect import has_password
from store.errors import StoreError
from store.redis.store import RedisStore
from store.redis.target import INVALID, check_files, parse_target


def test_the_nodes_of_a_cluster() -> None:
    """Each node has its host and port; user, password and options are those of all nodes."""
    target = parse_target("rediss+cluster://ann:p%40ss@one:7001,two,[::1]:7003?ssl_ca_certs=/ca.pem")
    assert target.kind == "cluster"
    assert target.hosts == (("one", 7001), ("two", 6379), ("::1", 7003))
    assert (target.options["username"], target.options["password"]) == ("ann", "p@ss")
    assert target.options["ssl_ca_certs"] == "/ca.pem"
    assert target.tls
    assert target.connection_class is SSLConnection
    assert target.address == "one:7001, two:6379, ::1:7003"


def test_sentinels() -> None:
    """The path has the name of the master and the database, and a Sentinel has a password of its own."""
    target = parse_target(
        "redis+sentinel://:secret@one,two:5/my%20main/3?sentinel_password=other&sentinel_username=bob"
    )
    assert target.kind == "sentinel"
    assert target.hosts == (("one", 26379), ("two", 5))
    assert (target.master, target.db) == ("my main", 3)
    assert target.options["password"] == "secret"
    assert target.sentinel_options == {"password": "other", "username": "bob"}
    assert not target.tls


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
def test_a_password_is_written_once(topology: str) -> None:
    """If each address has it, or if it has an @ itself, the message says how to write it."""
    for secret in (":hidden@a,:hidden@b", ":hid@den@a"):
        with pytest.raises(StoreError, match="more than one @") as refused:
            parse_target(f"redis+{topology}://{secret}/m")
        assert "hid" not in str(refused.value)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("url", ["rediss://h", "rediss+cluster://h,i", "rediss+sentinel://h/m"])
async def test_a_missing_file_is_named(url: str, option: str, tmp_path: Path) -> None:
    """Otherwise each connection would fail as if there were no Redis."""
    path = tmp_path / "ca.pem"
    store = RedisStore(f"{url}?{option}={path}")
    with pytest.raises(
        StoreError, match=f"ca.pem, which {option} in the store's URL names, isn't there. Correct its path.$"
    ):
        await store.open()
    await store.close()
    path.touch()
    check_files(parse_target(f"{url}?{option}={path}"))


def test_one_server() -> None:
    """A server has the default port and database; a Unix socket has a path."""
    target = parse_target("redis://localhost")
    assert (target.kind, target.hosts, target.db) == ("node", (("localhost", 6379),), 0)
    assert parse_target("unix:///run/redis.sock?db=2").address == "/run/redis.sock"


@pytest.mark.parametrize(
    "option",
    [
        "credential_provider",
        "retry",
        "redis_connect_func",
        "socket_keepalive_options",
        "event_dispatcher",
        "ssl_cert_reqs",
    ],
)
@pytest.mark.parametrize("url", ["rediss://:hidden@h", "rediss+cluster://:hidden@h,i", "rediss+sentinel://:hidden@h/m"])
def test_an_option_that_cannot_be_in_a_url_is_refused(url: str, option: str) -> None:
    """redis-py would call the text as if it were an object, and the gateway would end with a traceback."""
    with pytest.raises(StoreError) as refused:
        parse_target(f"{url}?{option}=hidden")
    assert str(refused.value) == INVALID


def test_blanks_between_addresses_have_no_meaning() -> None:
    """A list is often written with them."""
    assert parse_target("redis+cluster://u:p@one:1, two:2").hosts == (("one", 1), ("two", 2))


@pytest.mark.parametrize("option", ["password", "sentinel_password", "ssl_password"])
def test_each_password_is_found(option: str) -> None:
    """A warning says that a command line shows it."""
    assert has_password(f"rediss+sentinel://h/m?db=0&{option}=x")
