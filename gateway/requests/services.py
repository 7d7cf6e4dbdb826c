"""The parts of the application that client sessions use."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.identity.authenticator import Authenticator
from gateway.limits.limits import Limits
from gateway.limits.memory import Memory
from gateway.requests.clients import ClientRegistry
from gateway.requests.erasure import Erasure
from gateway.settings import Settings
from gateway.telemetry.metrics import Telemetry
from gateway.turns.cancellation import Cancellation
from gateway.turns.list_subscriptions import ListSubscriptions
from gateway.turns.mirrors import Mirrors
from gateway.turns.registry import TurnRegistry
from gateway.turns.runner import TurnRunner
from gateway.turns.starter import TurnStarter
from gateway.turns.subscriptions import ConversationSubscriptions
from providers.catalog.catalog import Catalog
from store.api import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one process. `create_runtime` in `runtime.py` creates them."""

    instance: str
    settings: Settings
    store: Store
    authenticator: Authenticator
    catalog: Catalog
    registry: TurnRegistry
    mirrors: Mirrors
    runner: TurnRunner
    starter: TurnStarter
    cancellation: Cancellation
    subscriptions: ConversationSubscriptions
    list_subscriptions: ListSubscriptions
    limits: Limits
    memory: Memory
    telemetry: Telemetry
    clients: ClientRegistry
    erasure: Erasure
