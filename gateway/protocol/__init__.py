"""The wire protocol: requests, results, events, errors and codecs. Pure: no I/O, no async."""
