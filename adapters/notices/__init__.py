"""The signed notices of simulated services, kept until their receiver accepts them."""
