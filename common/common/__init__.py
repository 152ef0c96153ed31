"""Shared technique of the Saras services: one subject a module, no business rule."""
