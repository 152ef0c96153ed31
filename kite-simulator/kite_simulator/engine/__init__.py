"""The exchange and broker behind the wire: pure, synchronous, driven by an injected clock."""

from kite_simulator.engine.clock import Clock, SystemClock, VirtualClock
from kite_simulator.engine.core import Engine
from kite_simulator.engine.errors import Refused
from kite_simulator.engine.faults import FaultKind, FaultRates

__all__ = ["Clock", "Engine", "FaultKind", "FaultRates", "Refused", "SystemClock", "VirtualClock"]
