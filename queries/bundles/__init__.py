"""Evidence bundles: one zip with all that the log knows of an order, a wallet or a payment, which
others can check without the log."""
