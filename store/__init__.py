"""Storage of turns and history. Events and messages are bytes here; nothing depends on providers or sockets."""
