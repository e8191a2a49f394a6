"""The processes that make up the program: each does one thing, may run on a host of its own, and
stops on SIGTERM.

Each module imports only what its process needs: they start by the dozen.
"""
