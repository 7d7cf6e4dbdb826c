"""The embedded store, which uses SQLite: see `store.sqlite.store`."""
