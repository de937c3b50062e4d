"""The supervisor: the process tree, its listening sockets, reload and upgrade."""
