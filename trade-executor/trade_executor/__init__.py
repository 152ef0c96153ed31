"""Blocks, broker orders, fills, allocations; the only room that talks to a broker."""
