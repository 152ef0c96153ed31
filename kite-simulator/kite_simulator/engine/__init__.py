"""The exchange and broker behind the wire: pure, synchronous, driven by an injected clock."""

from kite_simulator.engine.clock import Clock, SystemClock, VirtualClock
from kite_simulator.engine.core import Engine
from kite_simulator.engine.errors import Refused

__all__ = ["Clock", "Engine", "Refused", "SystemClock", "VirtualClock"]
