"""Benchmarks of the gateway from outside: a raw upstream, a raw client, and CPU and memory from the operating system."""
