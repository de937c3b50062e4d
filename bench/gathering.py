"""The gateway with another time for which its busy name server waits for more queries.

    python -m bench.gathering MICROSECONDS run SITE

`python -m bench.dns` measures it so. 0 is not to wait.
"""

import sys

from gateway.cli import main
from gateway.dns.process import DnsProcess

if __name__ == "__main__":
    DnsProcess.gather = int(sys.argv.pop(1))  # the processes of the tree are forks of this one
    main()
