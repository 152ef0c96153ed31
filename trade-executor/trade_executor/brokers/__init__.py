"""Broker adapters: one Protocol, the official Kite Connect client behind it, the daily session."""
