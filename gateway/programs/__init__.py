"""The process of the programs of maps: it runs them, and asks them what workers want to know."""
