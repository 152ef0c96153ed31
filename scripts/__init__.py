"""Operator scripts and the composition root of the one-machine platform: the only code that imports several rooms."""
