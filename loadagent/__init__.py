"""The load agent: measures the machine it runs on and tells the gateways how loaded it is."""
