"""The conformance tests of the `Store` protocol. The test class of each kind of store inherits them.

They use only the `Store` protocol. A subclass defines the fixture `open_store`, a function that returns one more open
store on the same data, as for one more instance of the gateway. The data is empty at first, and the subclass closes the
stores. A store that isn't `shared` is opened once.
"""

from __future__ import annotations

from tests.conformance.accepting import Accepting
from tests.conformance.busy import BusyConversations
from tests.conformance.cancel_requests import CancelRequests
from tests.conformance.changing import Changing
from tests.conformance.ending import Endings
from tests.conformance.ephemeral import EphemeralValues
from tests.conformance.history_limits import HistoryLimits
from tests.conformance.lifetime import OpeningAndClosing
from tests.conformance.log import Logs
from tests.conformance.other_users import OtherUsers
from tests.conformance.ownership import Ownership
from tests.conformance.permits import Permits
from tests.conformance.pubsub import PubSub
from tests.conformance.rates import RateLimits
from tests.conformance.reading import Reading
from tests.conformance.retention import Retention
from tests.conformance.search import Searches
from tests.conformance.turn_limits import TurnLimitsOfUsers


class HistoryConformance(
    Searches, Accepting, BusyConversations, HistoryLimits, Endings, Reading, Retention, Changing, OtherUsers
):
    """What has to do with the history: conversations, messages, feedback and usage, and the turns that change them."""


class StoreConformance(
    HistoryConformance,
    TurnLimitsOfUsers,
    Logs,
    Ownership,
    CancelRequests,
    PubSub,
    EphemeralValues,
    RateLimits,
    Permits,
    OpeningAndClosing,
):
    """The tests that every store must pass."""
