"""What a KYC submission must contain: PAN form, age, telephone numbers.

PAN: five letters, four digits, one letter (Income-tax Rules 1962, rule 114); the fourth letter is the kind of holder,
P for a person. Age: a trading account needs the age of majority, 18 (Indian Majority Act 1875, section 3).
"""

import re
from datetime import date

ADULT_AGE_YEARS = 18
AGE_YEARS_MAX = 120
_PAN = re.compile(r"[A-Z]{5}[0-9]{4}[A-Z]\Z")
_E164 = re.compile(r"\+[1-9][0-9]{7,14}\Z")
_INDIAN_MOBILE = re.compile(r"[6-9][0-9]{9}\Z")


def parse_pan(text: str) -> str:
    """The PAN in capitals; raises ValueError when it has not the form of one."""
    pan = text.strip().upper()
    if not _PAN.match(pan):
        raise ValueError("a PAN has five letters, four digits and one letter, for example ABCPE1234F")
    return pan


def mask_pan(last_four: str) -> str:
    """The PAN as it is shown: all but the last four characters hidden."""
    return "******" + last_four


def age_on(born: date, today: date) -> int:
    """Completed years of age; somebody born on 29 February comes of age on 1 March of a common year."""
    return today.year - born.year - ((today.month, today.day) < (born.month, born.day))


def check_adult(born: date, today: date) -> None:
    """Raise ValueError unless somebody born then is an adult (and may be alive) today."""
    age = age_on(born, today)
    if age < ADULT_AGE_YEARS:
        raise ValueError(f"you must be at least {ADULT_AGE_YEARS} years old")
    if age > AGE_YEARS_MAX:
        raise ValueError("this date of birth is too long ago")


def parse_phone(text: str) -> str:
    """The number in E.164 form; ten digits are taken as an Indian mobile number; raises ValueError otherwise."""
    compact = re.sub(r"[\s().-]", "", text)
    if _INDIAN_MOBILE.match(compact):
        return "+91" + compact
    if not _E164.match(compact):
        raise ValueError("give the number with its country code, for example +919876543210")
    return compact
