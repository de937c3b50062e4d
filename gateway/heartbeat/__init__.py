"""Which gateway answers for the shared addresses: membership, leases, election, takeover."""
