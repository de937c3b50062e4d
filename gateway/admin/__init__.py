"""The HTTP endpoints of a running gateway for operators and their programs."""
