"""What the application owns and a session works with."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from gateway.requests.services import Services


async def test_services_are_one_frozen_set(services: Services) -> None:
    """All that a session needs is there, and nobody swaps a part of it."""
    assert services.instance.startswith("in_")
    assert services.mirrors._instance.id == services.instance
    assert services.runner.default_model == services.catalog.default_model == "demo"
    with pytest.raises(FrozenInstanceError):
        services.registry = services.registry  # type: ignore[misc]
