"""A process that runs the tests' projections until it is killed. Usage: python -m
tests.support.processes.projector DATABASE"""

import sys

from projections.engine.runner import Runner
from tests.support.events.tallies import CODEC, tallies, uses

if __name__ == "__main__":
    Runner(sys.argv[1], CODEC, [tallies(), uses()]).run()
