"""The authoritative name server: zones, the choice of sites, and the process that answers."""
