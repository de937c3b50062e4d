"""The tracing process: makes spans of what workers record of sampled requests, and sends them to a collector."""
