"""The processes of the program. Each does one thing, can run on a host of its own, and stops on
SIGTERM. Each module imports only what its process needs, as many processes start together."""
