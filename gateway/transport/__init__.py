"""Bounds on uvicorn's protocols."""
