"""Identity and permissions: credentials, scopes, tickets, revocations, and the checks of Host and Origin."""
