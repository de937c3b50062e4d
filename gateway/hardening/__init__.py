"""What each process of the gateway may do, and how the kernel enforces it."""
