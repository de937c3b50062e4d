"""Quality of service: pure policy, no socket, no clock. Classes, admission and sessions will live here."""
