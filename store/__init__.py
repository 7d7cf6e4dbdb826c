"""Storage of turns and history. Here, events and messages are just bytes, and no module imports providers or the gateway."""
