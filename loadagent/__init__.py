"""The load agent: measures the machine that it runs on and reports its load to the gateways."""
