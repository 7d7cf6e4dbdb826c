"""What the application owns and a client's session works with."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.identity.authenticator import Authenticator
from gateway.limits import Limits
from gateway.memory import Memory
from gateway.settings import Settings
from gateway.telemetry.metrics import Telemetry
from gateway.turns.followers import Followers
from gateway.turns.hub import Hub
from gateway.turns.runner import Runner
from gateway.turns.stopping import Stopping
from gateway.turns.watchers import Watchers
from providers.catalog import Catalog
from store.interface import Store


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
