"""What the application owns and a client's session works with."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.identity.authenticator import Authenticator
from gateway.limits.limits import Limits
from gateway.limits.memory import Memory
from gateway.requests.clients import ClientRegistry
from gateway.settings import Settings
from gateway.telemetry.metrics import Telemetry
from gateway.turns.cancellation import Stopping
from gateway.turns.mirrors import Followers
from gateway.turns.registry import Hub
from gateway.turns.starter import Runner
from gateway.turns.subscriptions import Watchers
from providers.catalog.catalog import Catalog
from store.api import Store


@dataclass(frozen=True, slots=True)
class Services:
    """One set for each process, made in `app.py`."""

    instance: str
    settings: Settings
    store: Store
    authenticator: Authenticator
    catalog: Catalog
    hub: Hub
    followers: Followers
    runner: Runner
    stopping: Stopping
    watchers: Watchers
    limits: Limits
    memory: Memory
    telemetry: Telemetry
    clients: ClientRegistry
