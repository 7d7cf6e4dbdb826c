"""Limits of users, addresses and this process: requests, connections, turns, budgets, bytes, time and memory."""
