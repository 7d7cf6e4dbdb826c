"""Samples of a streaming turn: the gap between two batches, and the latency of a batch on its way to a socket."""

from __future__ import annotations

import pytest

from gateway.protocol.codec import JSON
from gateway.requests.services import Services
from gateway.streams.outbox import Outbox
from gateway.telemetry.metrics import Telemetry
from tests.client import client
from tests.in_loop_server import serving
from tests.in_process import SLOW, SessionClient, eventually
from tests.metrics import value


def count(telemetry: Telemetry, name: str) -> float:
    """Return the number of observations of the histogram."""
    return value(telemetry.render("")[0].decode(), f"turnwire_{name}_seconds_count")


async def test_a_streaming_turn_is_sampled_on_its_way_to_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token gaps, the added latency over a WebSocket, and the lag of the loop are sampled."""
    monkeypatch.setattr("gateway.turns.sampling.SAMPLE_INTERVAL_S", 0.01)
    async with serving() as server, client(server.ws_url) as c:
        telemetry = server.gateway.telemetry
        await c.request("turn.start", turn="t", input="Hi", params={"demo": SLOW})
        await eventually(lambda: count(telemetry, "token_gap") > 2)
        await eventually(lambda: count(telemetry, "added_latency") > 2)
        assert count(telemetry, "loop_lag") > 2


async def test_an_attachment_with_a_backlog_is_not_timed(
    services: Services, ann: SessionClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's own slowness isn't added latency: if every attachment has a backlog, only the gap is measured."""
    monkeypatch.setattr("gateway.turns.sampling.SAMPLE_INTERVAL_S", 0.01)
    await ann.start("t", demo=SLOW)
    stream = services.registry.get("ann", "t")
    assert stream is not None
    ann.outbox.detach("t")
    backlogged = Outbox(JSON, 10**9, lambda: None, lambda: None)
    stream.attach(backlogged, None, 0)
    await eventually(lambda: count(services.telemetry, "token_gap") > 2)
    assert backlogged.frame_observer is None
    assert count(services.telemetry, "added_latency") == 0
