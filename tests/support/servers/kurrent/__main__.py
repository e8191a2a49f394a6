"""The double as a process of its own, which can be killed and started again:
`python -m tests.support.servers.kurrent --port 2113 --folder /tmp/kurrent`."""

import argparse
import signal
from pathlib import Path

from tests.support.servers.kurrent.double import KurrentDouble


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, action="append", required=True, help="one per node")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    with KurrentDouble(folder=given.folder, ports=given.port) as kurrent:
        print(kurrent.url, flush=True)
        signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main()
