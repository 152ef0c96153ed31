"""Access tokens at the door: verified by common.auth, with the event loop kept free.

Verifying may fetch the signing keys, which blocks. A token is therefore verified on a thread the first time; once it is
known it is in the verifier's cache and costs a dictionary look-up on the loop.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from api_gateway.headers import RawHeaders
from common.auth import AccessTokens, CurrentUser
from common.errors import Unauthorized, Unavailable

VERIFY_THREADS = 2
VERIFY_TIMEOUT_S = 3.0


class TokenRequired(Unauthorized):
    """The route needs an access token and got none, or several."""


class TokenCheck:
    """Turns the Authorization header into the user it speaks for."""

    def __init__(self, access: AccessTokens) -> None:
        self._access = access
        self._threads = ThreadPoolExecutor(VERIFY_THREADS, thread_name_prefix="verify-token")

    async def user(self, headers: RawHeaders) -> CurrentUser:
        """The user of a request; raises TokenRequired, InvalidToken, ExpiredToken or Unavailable (no keys yet)."""
        token = _bearer(headers)
        if (known := self._access.known(token)) is not None:
            return known
        try:
            async with asyncio.timeout(VERIFY_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._access.verify, token)
        except TimeoutError:
            raise Unavailable("Sign-in keys cannot be read at the moment; try again shortly.") from None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _bearer(headers: RawHeaders) -> str:
    given = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = given[0].decode("latin-1").partition(" ") if len(given) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise TokenRequired("Send one access token: Authorization: Bearer <token>.")
    return token.strip()
