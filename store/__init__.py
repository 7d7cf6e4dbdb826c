"""History and turn records. An event and a message are bytes to it; it knows nothing of providers or sockets."""
