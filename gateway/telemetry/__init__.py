"""Metrics, logs and traces for the operator. None of them costs anything per token."""
