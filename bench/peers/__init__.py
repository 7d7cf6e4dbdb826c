"""Gateways to compare with, each as its documentation would have it built."""
