"""The store that uses SQLite: see `store.sqlite.store`."""
