"""What the gateway would do with a request, and whether that is what a site file's tests expect. No network."""
