"""The commands of `ludoteca`, a module for each group. What is heavy is imported when it runs: help
is quick."""
