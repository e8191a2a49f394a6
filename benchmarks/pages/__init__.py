"""What the pages of `web/` cost."""
