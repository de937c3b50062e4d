"""Makes site files of configurations of HAProxy and nginx, and reports what became of each line."""
