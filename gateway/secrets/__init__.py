"""Keys and certificates, and the processes that get them."""
