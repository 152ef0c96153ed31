"""Portfolios, the ledger, user orders, tax lots, statements."""
