"""`python -m common.probe 8001/health/ready`: exit 0 when a port of this machine answers with success; for health checks.

Nothing but the standard library: it runs every few seconds in every container.
"""

import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 4.0


def main(where: str) -> int:
    """Answers the exit code: 0 for a 2xx answer of `<port>/<path>`, otherwise 1."""
    port, _, path = where.partition("/")
    connection = HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{path}")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"{where}: {type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    return 0 if 200 <= status < 300 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
