"""Certificates that the gateway gets from an authority by ACME (RFC 8555) and renews."""
