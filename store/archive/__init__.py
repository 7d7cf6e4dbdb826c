"""The archive: a SQL database that keeps conversations for years, while Redis keeps those in use."""
