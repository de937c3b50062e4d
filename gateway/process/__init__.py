"""Common to all processes of the tree: its channel to the supervisor, bulletins, helper processes."""
