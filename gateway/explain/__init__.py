"""Explains how the gateway would handle a request, and runs a site file's tests. Uses no network."""
