"""Keys and certificates, and who may know them."""
