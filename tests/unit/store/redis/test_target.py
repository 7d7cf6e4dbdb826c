"""A URL names one server, a cluster or a master behind Sentinels, with the options of redis-py."""

from __future__ import annotations

from redis.asyncio.connection import SSLConnection

from store.redis.target import parse_target


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


def test_one_server() -> None:
    """A server has the default port and database; a Unix socket has a path."""
    target = parse_target("redis://localhost")
    assert (target.kind, target.hosts, target.db) == ("node", (("localhost", 6379),), 0)
    assert parse_target("unix:///run/redis.sock?db=2").address == "/run/redis.sock"
