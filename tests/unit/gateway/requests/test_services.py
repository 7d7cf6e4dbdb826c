"""The services that the application owns and that a session uses."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from gateway.requests.services import Services


async def test_services_fit_together_and_are_frozen(services: Services) -> None:
    """The services share one instance id and one default model, and none of them can be replaced."""
    assert services.instance.startswith("in_")
    assert services.mirrors._instance.id == services.instance
    assert services.runner.default_model == services.catalog.default_model == "demo"
    with pytest.raises(FrozenInstanceError):
        services.registry = services.registry  # type: ignore[misc]
