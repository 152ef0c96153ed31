"""What speaks to the outside: one module a kind of provider, each with bounded waits and the same four ways to fail."""
