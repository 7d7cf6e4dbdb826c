"""Turnwire for programs that use a gateway: `turnwire.client`."""
