"""A projector as a process: runs the tests' projections until it is killed. Usage: runner_process.py DATABASE"""

import sys

from tallies import CODEC, tallies, uses

from projections.engine.runner import Runner

if __name__ == "__main__":
    Runner(sys.argv[1], CODEC, [tallies(), uses()]).run()
