"""Make a context fit for the dialect that it is sent in. Everything here is pure: no I/O, no state."""
