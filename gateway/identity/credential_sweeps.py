"""Check the credentials of connected clients every second, for changed API keys and for revocations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Set

import structlog

from gateway.identity.api_keys import ApiKeys
from gateway.identity.credential_lease import CredentialLease
from gateway.identity.principal import Principal, principal_of
from gateway.identity.revocations import Revocations
from gateway.identity.tokens import AuthSetupError
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.auth")

SWEEP_S = 1.0
SWEEP_BATCH_SIZE = 500


class CredentialSweeps:
    """The sweeps over the `leases` of the connected clients. `keys` is None if API keys aren't accepted."""

    def __init__(self, leases: Set[CredentialLease], keys: ApiKeys | None, revocations: Revocations) -> None:
        self._leases = leases
        self._keys = keys
        self._revocations = revocations
        self._reload_lock = asyncio.Lock()
        self._keys_changed = False

    def refresh(self, principal: Principal) -> Principal | None:
        """Return the principal with the current scopes and expiration of its API keys.

        Return None if one of its keys is no longer valid, or if its service has lost the scope `as`.
        """
        keys = self._keys
        current = [
            one if not one.digest else None if keys is None else keys.current(one) for one in principal.credentials
        ]
        known = [one for one in current if one is not None]
        if len(known) < len(current) or any("as" not in service.scopes for service in known[1:]):
            return None
        return principal_of(*known, withheld=principal.withheld) if known else principal

    async def reload_keys(self) -> None:
        """Read the key file again if it has changed."""
        if self._keys is not None:
            async with self._reload_lock:
                try:
                    if await asyncio.to_thread(self._keys.reload):
                        self._keys_changed = True
                        log.info("API keys reloaded", keys=self._keys.count)
                except AuthSetupError as error:
                    log.error("API keys not reloaded", error=str(error))

    async def run(self) -> None:
        """Watch for changed keys and for revocations, and apply them to the connected clients, until cancelled."""
        version: bytes | None = None
        revoked = False
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.reload_keys()
            changed, self._keys_changed = self._keys_changed, False
            await self._sweep_keys(changed)
            try:
                found = await self._revocations.version()
                revoked = revoked or found != version
                version = found
                await self._sweep_revocations(revoked)
                revoked = False
            except StoreError as error:
                log.info("revocations can't be read", error=str(error))

    def _sweep_batches(self, sweep_all: bool) -> Iterator[list[CredentialLease]]:
        """Yield the leases to check, in batches: all of them, or those whose principal is new since the last sweep.

        A new lease may have missed a change that happened while its client was being admitted.
        """
        found = [lease for lease in self._leases if sweep_all or lease.swept_principal is not lease.principal]
        for start in range(0, len(found), SWEEP_BATCH_SIZE):
            yield [lease for lease in found[start : start + SWEEP_BATCH_SIZE] if self._is_active(lease)]

    def _is_active(self, lease: CredentialLease) -> bool:
        return lease in self._leases and not lease.revoked

    async def _sweep_keys(self, sweep_all: bool) -> None:
        for batch in self._sweep_batches(sweep_all):
            for lease in batch:
                self._refresh_lease(lease)
            await asyncio.sleep(0)

    def _refresh_lease(self, lease: CredentialLease) -> None:
        """Apply the current lines of the client's API keys to its lease, or revoke the lease if a key is gone."""
        current = self.refresh(lease.principal)
        if current is None:
            lease.revoke()
        elif current != lease.principal:
            lease.update(current)

    async def _sweep_revocations(self, sweep_all: bool) -> None:
        for batch in self._sweep_batches(sweep_all):
            principals = [lease.principal for lease in batch]
            revoked = await self._revocations.revoked(principals)
            for lease, principal, is_revoked in zip(batch, principals, revoked, strict=True):
                if lease.principal is not principal or not self._is_active(lease):
                    continue  # it was renewed or has left; a renewed one is checked in the next sweep
                lease.swept_principal = principal
                if is_revoked:
                    lease.revoke()
                else:
                    self._refresh_lease(lease)  # it may have been admitted after the keys were swept
