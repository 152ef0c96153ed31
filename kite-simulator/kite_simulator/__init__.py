"""Kite Connect v3 on the wire, with its own matching engine and truth log."""
