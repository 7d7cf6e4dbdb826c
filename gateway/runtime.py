"""The parts of a running gateway and their background tasks. `create_runtime` creates and connects them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

import msgspec
from prometheus_client.metrics_core import Metric

from gateway.breaker_sync import BreakerSync
from gateway.identity.authenticator import Authenticator
from gateway.limits.connections import ConnectionLimiter
from gateway.limits.limits import Limits
from gateway.limits.memory import Memory
from gateway.protocol.events import Durability
from gateway.protocol.ids import new_id
from gateway.requests import erasure
from gateway.requests.clients import TRANSPORTS, ClientRegistry
from gateway.requests.services import Services
from gateway.requests.silent_clients import SILENT_CLIENTS_CHANNEL, SilentClients
from gateway.retention import Retention
from gateway.settings import Settings
from gateway.tasks import keep_running
from gateway.telemetry.metrics import Telemetry, counter, gauge
from gateway.telemetry.tracing import Tracing
from gateway.turns.abandonment import Abandonment
from gateway.turns.cancellation import Cancellation
from gateway.turns.instance import Instance
from gateway.turns.leases import Leases
from gateway.turns.list_subscriptions import ListSubscriptions
from gateway.turns.log_writer import LogWriter
from gateway.turns.lost_endings import LostEndings
from gateway.turns.mirrors import Mirrors
from gateway.turns.reaper import Reaper
from gateway.turns.registry import TurnRegistry
from gateway.turns.runner import TurnRunner
from gateway.turns.sampling import run_sampling
from gateway.turns.starter import TurnStarter
from gateway.turns.state import shown_status
from gateway.turns.subscriptions import ConversationSubscriptions
from gateway.turns.takeover import Takeover
from gateway.turns.titles import OFF, Titles
from providers.catalog import costs
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from providers.retry.retry import Retries, RetryingClient
from store.api import Store, instance_channel
from store.archive.state import DrainState, archive_state

ENDED_TTL_S = 60.0
PRICES_AFTER_S = 0.5
SDKS_AFTER_S = 3.0

_decode_cancel_request = msgspec.msgpack.Decoder(tuple[str, str]).decode


@dataclass(slots=True)
class Runtime:
    """The parts of a gateway. Start the `background_tasks`, then call `start` before anything is served."""

    services: Services
    writer: LogWriter
    leases: Leases
    reaper: Reaper
    breaker_sync: BreakerSync
    providers: ProviderClients
    silent_clients: SilentClients
    lost_endings: LostEndings

    async def start(self) -> None:
        """Subscribe to the channels on which other instances notify this one. Raises `StoreError`.

        The instance's own channel carries cancel requests, and `erasure.CHANNEL` the names of erased users.
        `SILENT_CLIENTS_CHANNEL` carries requests to close a user's silent connection; it is used only if the
        connections of a user are limited.
        """
        await self.services.store.subscribe(instance_channel(self.services.instance))
        await self.services.store.subscribe(erasure.CHANNEL)
        if self.services.limits.connections.limits["user"]:
            await self.services.store.subscribe(SILENT_CLIENTS_CHANNEL)

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return the coroutines to run in the background. The caller cancels those that still run at the end."""
        rate_limiter = self.services.limits.rate_limiter
        rate_limits = (
            [] if rate_limiter is None else [partial(rate_limiter.run, self.services.store, self.writer.is_reachable)]
        )
        works: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *rate_limits,
            self.services.clients.run_heartbeats,
            self.writer.run,
            self.leases.run,
            self.reaper.run,
            Retention(self.services, self.services.settings.retention_days).run,
            self.breaker_sync.run,
            partial(run_sampling, self.services.registry, self.services.telemetry),
            self.services.limits.connections.run,
            self.services.memory.run,
            partial(_warm_up, self.services, self.providers),
            self.services.mirrors.run,
            *self.services.authenticator.background_tasks(),
            partial(self.services.store.run_pubsub, self._deliver, self._resync),
        ]
        return [keep_running(work) for work in works]

    def _deliver(self, channel: str, payload: bytes) -> None:
        kind = channel.partition(":")[0]
        if kind == "turn":
            self.services.mirrors.deliver(channel, payload)
        elif kind == "conversation":
            self.services.subscriptions.deliver(channel, payload)
        elif kind == "list":
            self.services.list_subscriptions.deliver(channel, payload)
        elif kind == erasure.CHANNEL:
            self.services.erasure.deliver(payload)
        elif kind == SILENT_CLIENTS_CHANNEL:
            self.silent_clients.deliver(payload)
        else:
            self.services.cancellation.on_cancel_requested(*_decode_cancel_request(payload))

    def _resync(self) -> None:
        self.services.mirrors.schedule_read()
        self.services.subscriptions.resync()
        self.services.list_subscriptions.resync()
        self.lost_endings.schedule()


def create_runtime(
    settings: Settings,
    store: Store,
    catalog: Catalog,
    providers: ProviderClients,
    tasks: asyncio.TaskGroup,
    authenticator: Authenticator,
    telemetry: Telemetry,
    tracing: Tracing | None = None,
) -> Runtime:
    """Create the parts of a gateway and connect them."""

    clients = ClientRegistry(telemetry, settings.heartbeat_s)

    def on_reachable_changed(reachable: bool) -> None:
        clients.set_durability(Durability("ok" if reachable else "degraded"))
        if not reachable:
            telemetry.store_degradations.inc()

    registry = TurnRegistry(min(settings.turn_log_ttl_s, ENDED_TTL_S))
    instance = Instance(new_id("in"), settings, store, registry, catalog, telemetry, tracing, tasks)
    client = RetryingClient(
        providers,
        Retries(
            attempts=settings.provider_attempts,
            wait_max_s=settings.retry_wait_s,
            breaker_failures=settings.breaker_failures,
            breaker_open_s=settings.breaker_open_s,
        ),
    )
    writer = LogWriter(store, settings.flush_ms / 1000, on_reachable_changed, tasks)
    leases = Leases(instance, writer)
    mirrors = Mirrors(instance)
    runner = TurnRunner(instance, client, writer, leases, mirrors)
    abandonment = Abandonment(instance)
    takeover = Takeover(instance, runner, mirrors, abandonment)
    cancellation = Cancellation(instance, mirrors, takeover)
    memory = Memory(settings.memory_bytes)
    starter = TurnStarter(instance, runner, mirrors, cancellation, takeover, abandonment, memory)
    subscriptions = ConversationSubscriptions(instance, mirrors)
    list_subscriptions = ListSubscriptions(instance)
    if settings.titles != OFF:
        runner.on_completed = Titles(instance, starter, subscriptions).on_completed
    silent_clients = SilentClients(instance.id, clients, store, tasks)
    limits = Limits(settings, ConnectionLimiter(settings, store, writer.is_reachable, silent_clients.make_room))
    services = Services(
        instance.id,
        settings,
        store,
        authenticator,
        catalog,
        registry,
        mirrors,
        runner,
        starter,
        cancellation,
        subscriptions,
        list_subscriptions,
        limits,
        memory,
        telemetry,
        clients,
        erasure.Erasure(store, registry, cancellation, clients, limits, list_subscriptions),
    )
    telemetry.register_live_metrics(lambda: _live_metrics(services, writer, providers))
    reaper, breaker_sync = Reaper(instance, writer, takeover), BreakerSync(store, client.breakers)
    lost_endings = LostEndings(instance)
    return Runtime(services, writer, leases, reaper, breaker_sync, providers, silent_clients, lost_endings)


def _live_metrics(services: Services, writer: LogWriter, providers: ProviderClients) -> list[Metric]:
    """Return the metrics whose values are looked up when the metrics are requested."""
    label = services.telemetry.model_label
    turns = Counter((shown_status(turn.state), label(turn.model)) for turn in services.registry.live() if turn.is_owned)
    clients = services.clients.counts()
    return [
        gauge(
            "connections", "Open client connections.", [((name,), clients[name]) for name in TRANSPORTS], "transport"
        ),
        gauge("turns", "Running and queued turns on this instance.", turns.items(), "state", "model"),
        gauge("store_degraded", "Store degradation: 1 while the log can't be written.", [((), writer.is_degraded)]),
        counter(
            "provider_skipped_events",
            "Events of providers that were skipped, because they held no chunk of an answer.",
            [((provider,), count) for provider, count in providers.skipped_events().items()],
            "provider",
        ),
        *_archive_metrics(services),
        gauge("draining", "Drain: 1 while this instance drains.", [((), services.runner.is_draining)]),
    ]


def _archive_metrics(services: Services) -> list[Metric]:
    state = archive_state(services.store) or DrainState()
    return [
        gauge("archive_degraded", "Archive degradation: 1 while it can't be written.", [((), state.is_degraded)]),
        gauge(
            "archive_unfit",
            "Archive misfit: 1 while it answers, but an operator has to change something before it can be written.",
            [((), state.is_unfit)],
        ),
        gauge("archive_pending", "Entries that wait to be archived, when last counted.", [((), state.pending)]),
        gauge("archive_oldest_seconds", "Age of the oldest entry that waits.", [((), state.oldest_age_s())]),
        counter("archive_entries", "Entries archived by this instance.", [((), state.drained)]),
        counter("archive_set_aside", "Entries that the archive refused.", [((), state.set_aside)]),
    ]


async def _warm_up(services: Services, providers: ProviderClients) -> None:
    """Load what turns need, the price list and the providers' SDKs, in threads soon after the start.

    Loading an SDK takes about a second. Nothing waits for the thread that loads the SDKs, not even the exit of the process.
    """
    await asyncio.sleep(PRICES_AFTER_S)
    if any(row.price_list and not missing for _, row, missing in services.catalog.providers()):
        await asyncio.to_thread(costs.load)
    await asyncio.sleep(SDKS_AFTER_S - PRICES_AFTER_S)
    Thread(target=providers.preload, args=(services.runner.default_model,), daemon=True).start()
