"""Decides which gateway owns the shared addresses: membership, leases, election, takeover."""
