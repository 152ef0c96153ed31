"""Users, KYC, roles, sessions; the sole holder of the signing key."""
