"""Seeded schedules over the whole path of an order, in one process and in virtual time, on real PostgreSQL."""
