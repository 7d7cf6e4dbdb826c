"""gateway.http.routes."""
