"""Make a context fit for the dialect in which it is sent. This package does no I/O."""
