"""What only the gateway counts; requests and their times are in common.metrics."""

from prometheus_client import Counter

session_checks = Counter(
    "saras_gateway_session_checks_total", "Questions to user-service whether a session lives.", ["service", "result"]
)
rate_limited = Counter("saras_gateway_rate_limited_total", "Requests refused by a rate limit.", ["service", "limit"])
limiter_fallbacks = Counter(
    "saras_gateway_limiter_fallbacks_total", "Requests counted in this process because Redis failed.", ["service"]
)
upstream_errors = Counter(
    "saras_gateway_upstream_errors_total", "Requests that a room did not answer properly.", ["service", "room", "kind"]
)
