"""Tells users what happened to their orders."""
