"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from kite_simulator.config import Settings, load_settings


def test_unknown_variable_stops_the_start_by_name(monkeypatch):
    monkeypatch.setenv("KITE_SIM_PROFIL", "strict")
    with pytest.raises(ValueError, match="KITE_SIM_PROFIL"):
        load_settings()


def test_wrong_value_stops_the_start_by_name(monkeypatch):
    monkeypatch.setenv("KITE_SIM_PROFILE", "lenient")
    with pytest.raises(ValidationError, match="profile"):
        load_settings()


def test_profile_decides_what_is_left_open():
    strict, compat = Settings(profile="strict"), Settings(profile="compat")
    assert (strict.limits_on, compat.limits_on) == (True, False)
    assert strict.engine_settings().partial_fill_probability == 0.3
    assert compat.engine_settings().partial_fill_probability == 0
    assert strict.engine_settings().opening_cash_paise == 100 * 10**7 * 100
