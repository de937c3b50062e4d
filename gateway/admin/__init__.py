"""What operators and their programs ask of a running gateway over HTTP."""
