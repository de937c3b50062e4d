"""The operating system, safely: accounts, files, descriptors, private sockets, output, reports of crashes."""
