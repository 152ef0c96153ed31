"""Smallcases, their versions and investments."""
