"""The gateway between clients and providers: protocol, turns, connections and HTTP."""

__version__ = "0.1.0"
