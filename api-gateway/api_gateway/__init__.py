"""The only public door: routing, JWT check, rate limits, one merged OpenAPI."""
