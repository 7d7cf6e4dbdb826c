"""The catalog of providers, models and prices, and the operator's changes to it."""
