"""The embedded store on SQLite, in `store.sqlite.store`."""
