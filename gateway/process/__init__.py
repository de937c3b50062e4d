"""What every process of the tree has: its channel to the supervisor, bulletins, helper processes."""
