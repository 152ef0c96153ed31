"""Pure rules: throttle delays, one-time codes, addresses, identity, transitions."""

from datetime import UTC, date, datetime, timedelta

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Conflict
from user_service import throttle, totp
from user_service.account_states import (
    ACCOUNT_STATUSES,
    ACCOUNT_TRANSITIONS,
    KYC_STATUSES,
    KYC_TRANSITIONS,
    check_account_transition,
    check_kyc_transition,
)
from user_service.emails import email_key, parse_email
from user_service.identity_rules import age_on, check_adult, mask_pan, parse_pan, parse_phone
from user_service.passwords import WeakPassword, check_new_password, common_passwords, prepare

POLICIES = st.sampled_from([throttle.ACCOUNT, throttle.ADDRESS])


@given(st.integers(0, 10**9), POLICIES)
def test_delays_never_shrink_and_never_exceed_the_cap(failures, policy):
    now, later = throttle.delay_after(failures, policy), throttle.delay_after(failures + 1, policy)
    assert 0 <= now <= later <= policy.cap_s


@given(POLICIES)
def test_the_first_failures_are_free_and_the_cap_is_reached(policy):
    assert throttle.delay_after(policy.free - 1, policy) == 0
    assert throttle.delay_after(policy.free, policy) == 1
    assert throttle.delay_after(policy.free + 10, policy) == policy.cap_s


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("testclient", "testclient"),
    ],
)
def test_addresses_are_counted_by_customer(address, group):
    assert throttle.address_group(address) == group


def test_counters_do_not_contain_the_mail_address():
    assert "asha" not in throttle.account_subject("asha@example.com")


# RFC 6238 appendix B, SHA-1, the last six of its eight digits
RFC6238_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.mark.parametrize(
    ("at", "code"), [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")]
)
def test_codes_agree_with_the_rfc(at, code):
    step = totp.matching_step(RFC6238_SECRET, code, datetime.fromtimestamp(at, UTC))
    assert step == at // 30


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(-3, 3))  # noqa: DTZ001
def test_a_code_matches_its_own_step_within_the_drift_only(instant, steps):
    at = instant.replace(tzinfo=UTC)
    code = pyotp.TOTP(RFC6238_SECRET).at(int(at.timestamp()) + 30 * steps)
    found = totp.matching_step(RFC6238_SECRET, code, at)
    if abs(steps) <= 1:
        assert found == int(at.timestamp()) // 30 + steps or found is not None
    else:
        assert found is None or pyotp.TOTP(RFC6238_SECRET).generate_otp(found) == code


@given(st.text())
def test_any_text_is_a_code_or_not_but_never_an_error(code):
    assert totp.matching_step(RFC6238_SECRET, code, datetime(2026, 1, 1, tzinfo=UTC)) in (
        None, *range(58_908_958, 58_908_964),
    )  # fmt: skip


@given(st.emails())
def test_the_key_of_an_address_ignores_case_and_form(address):
    try:
        parsed = parse_email(address)
    except ValueError:
        return
    assert email_key(parsed) == email_key(email_key(parsed))
    assert email_key(parsed) == email_key(parsed.upper()) or not parsed.isascii()


@given(st.text(max_size=60))
def test_parsing_an_address_answers_or_says_why(text):
    try:
        outcome = parse_email(text)
    except ValueError as error:
        outcome = f"refused: {error}"
    assert "@" in outcome or len(outcome) > len("refused: ")


@given(st.from_regex(r"[A-Z]{5}[0-9]{4}[A-Z]", fullmatch=True))
def test_a_pan_is_recognised_in_any_case(pan):
    assert parse_pan(f" {pan.lower()} ") == pan
    assert mask_pan(pan[-4:]) == "******" + pan[-4:]


@given(st.text(alphabet="ABab01９０ \n", max_size=12))
def test_other_texts_are_no_pan(text):
    candidate = text.strip().upper()
    valid = (
        len(candidate) == 10
        and candidate.isascii()
        and candidate[:5].isalpha()
        and candidate[5:9].isdigit()
        and candidate[9].isalpha()
    )
    if valid:
        assert parse_pan(text) == candidate
    else:
        with pytest.raises(ValueError, match="PAN"):
            parse_pan(text)


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 40_000))
def test_age_grows_by_one_on_each_birthday(born, days):
    today = born + timedelta(days=days)
    tomorrow = today + timedelta(days=1)
    assert age_on(born, tomorrow) - age_on(born, today) in (0, 1)
    if (tomorrow.month, tomorrow.day) == (born.month, born.day):
        assert age_on(born, tomorrow) == tomorrow.year - born.year


def test_a_leap_day_child_comes_of_age_on_the_first_of_march():
    with pytest.raises(ValueError, match="18"):
        check_adult(date(2008, 2, 29), date(2026, 2, 28))
    check_adult(date(2008, 2, 29), date(2026, 3, 1))


@pytest.mark.parametrize(
    ("typed", "number"),
    [("9876543210", "+919876543210"), ("+91 98765-43210", "+919876543210"), ("+1 (212) 555-0100", "+12125550100")],
)
def test_telephone_numbers_get_one_form(typed, number):
    assert parse_phone(typed) == number


@pytest.mark.parametrize(
    "typed", ["", "12345", "1234567890", "+0123456789", "+91abc", "+1234567890123456", "９876543210"]
)
def test_other_texts_are_no_telephone_number(typed):
    with pytest.raises(ValueError, match="country code"):
        parse_phone(typed)


@pytest.mark.parametrize(
    ("check", "states", "legal"),
    [
        (check_account_transition, ACCOUNT_STATUSES, ACCOUNT_TRANSITIONS),
        (check_kyc_transition, KYC_STATUSES, KYC_TRANSITIONS),
    ],
)
def test_every_pair_outside_the_table_raises(check, states, legal):
    refused = 0
    for before in (*states, "unknown"):
        for after in (*states, "unknown"):
            if (before, after) in legal:
                check(before, after)
            else:
                with pytest.raises(Conflict):
                    check(before, after)
                refused += 1
    assert refused == (len(states) + 1) ** 2 - len(legal)


def test_the_list_of_common_passwords_is_there():
    assert len(common_passwords()) >= 100
    assert "password123" in common_passwords()


@given(st.sampled_from(sorted(common_passwords())))
def test_common_passwords_are_refused_in_any_case(password):
    with pytest.raises(WeakPassword):
        check_new_password(password.upper(), email="a@example.com")


@given(st.text(min_size=10, max_size=128, alphabet=st.characters(exclude_categories=["Cs"])))
def test_long_passwords_need_no_special_characters(password):
    if len(set(prepare(password).casefold())) <= 2:
        with pytest.raises(WeakPassword, match="common"):
            check_new_password(password, email="somebody@example.com")
    else:
        check_new_password(password, email="somebody@example.com")
