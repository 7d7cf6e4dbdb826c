"""Who somebody is and what they may do: credentials, tickets, revocations, and where they come from."""
