"""The commands of `ludoteca`, one module per group. Heavy imports happen inside the commands, so
that help is fast."""
