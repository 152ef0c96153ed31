"""A read model of flows and values, built from events."""
