"""What each process of the gateway may do, and how the kernel is told to hold it to that."""
