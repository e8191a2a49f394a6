"""What the write side needs from the world, a module each. `adapters/` fulfils these; nothing here
knows how."""
