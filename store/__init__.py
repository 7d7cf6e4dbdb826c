"""Storage of turns and history. Here, events and the bodies of messages are just bytes.

No module of this package imports providers or the gateway.
"""
