"""KYC: handed in by the user, decided by another person, one PAN per account."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from uuid import uuid4

import pytest

FORM = {
    "legal_name": "Asha Rao",
    "pan": "abcpe1234f",
    "date_of_birth": "1990-02-28",
    "address": "12 MG Road, Bengaluru 560001",
}


def submit(house, person, **change):
    return house.post("/kyc", {**FORM, **change}, headers=person.headers)


def decide(house, admin, user_id, status, reason=None, path="/admin/users"):
    body = {"status": status, **({"reason": reason} if reason else {})}
    return house.client.put(f"/api/v1{path}/{user_id}/kyc-status", json=body, headers=admin.headers)


def kyc(house, person):
    return house.client.get("/api/v1/kyc", headers=person.headers)


def test_kyc_from_submission_to_approval(house):
    person, admin = house.person(), house.admin()
    assert kyc(house, person).json()["status"] == "none"

    submitted = submit(house, person)

    assert submitted.status_code == 201
    assert submitted.json()["status"] == "pending"
    assert submitted.json()["pan_masked"] == "******234F"
    approved = decide(house, admin, person.user_id, "approved")
    assert approved.status_code == 200
    assert approved.json()["kyc_status"] == "approved"
    assert kyc(house, person).json()["status"] == "approved"
    assert [(e["status"], e["user_id"]) for e in house.events("KycChanged")] == [
        ("pending", str(person.user_id)), ("approved", str(person.user_id)),
    ]  # fmt: skip
    person.tokens = house.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json()
    assert house.post("/auth/validate-token", {"token": person.tokens["access_token"]}).json()["kyc"] == "approved"


def test_the_pan_is_stored_as_four_characters_and_a_keyed_hash(house):
    person = house.person()
    submit(house, person)
    (row,) = house.rows("SELECT row_to_json(k)::text AS t FROM kyc_records k")
    assert "ABCPE1234F" not in row["t"].upper()
    assert "ABCPE" not in row["t"].upper()
    assert house.sealer.pan_hash("ABCPE1234F").hex() in row["t"]
    assert "ABCPE" not in kyc(house, person).text


@pytest.mark.parametrize("path", ["/admin/users", "/users"])
def test_a_rejection_tells_why_and_allows_another_try(house, path):
    person, admin = house.person(), house.admin()
    submit(house, person)
    assert decide(house, admin, person.user_id, "rejected", path=path).json()["code"] == "reason_required"

    rejected = decide(house, admin, person.user_id, "rejected", "The name differs from the PAN.", path=path)

    assert rejected.status_code == 200
    assert kyc(house, person).json()["reason"] == "The name differs from the PAN."
    assert submit(house, person, legal_name="Asha K Rao").status_code == 201
    assert kyc(house, person).json()["reason"] is None
    assert [e["status"] for e in house.events("KycChanged")] == ["pending", "rejected", "pending"]


def test_only_listed_changes_happen(house):
    person, admin = house.person(), house.admin()
    assert decide(house, admin, person.user_id, "approved").json()["code"] == "kyc_transition_refused"
    submit(house, person)
    assert submit(house, person).json()["code"] == "kyc_transition_refused"
    assert decide(house, admin, person.user_id, "approved").status_code == 200
    assert decide(house, admin, person.user_id, "approved").status_code == 409
    assert submit(house, person).status_code == 409
    assert decide(house, admin, person.user_id, "rejected", "The PAN was cancelled.").status_code == 200
    assert decide(house, admin, person.user_id, "approved").status_code == 409
    assert len(house.events("KycChanged")) == 3


def test_a_pan_belongs_to_one_account(house):
    first, second, admin = house.person(), house.person(), house.admin()
    submit(house, first)

    taken = submit(house, second, pan="ABCPE1234F")

    assert taken.status_code == 409
    assert taken.json()["code"] == "pan_in_use"
    assert kyc(house, second).json()["status"] == "none"
    assert [e["user_id"] for e in house.events("KycChanged")] == [str(first.user_id)]
    (event,) = house.rows("SELECT actor FROM audit_log WHERE action = 'kyc.pan_in_use'")
    assert event["actor"] == str(second.user_id)
    decide(house, admin, first.user_id, "rejected", "Not yours.")
    assert submit(house, second).status_code == 201
    assert submit(house, first).json()["code"] == "pan_in_use"


def test_a_closed_account_gives_its_pan_back(house):
    first, second = house.person(), house.person()
    submit(house, first)
    house.client.request("DELETE", "/api/v1/users/account", json={"password": first.password}, headers=first.headers)
    assert submit(house, second).status_code == 201


def test_of_parallel_submissions_of_one_pan_exactly_one_is_taken(house):
    people = [house.person() for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda person: submit(house, person).status_code, people))
    assert sorted(answers) == [201, 409, 409, 409]
    assert len(house.events("KycChanged")) == 1


def test_an_administrator_does_not_decide_on_the_own_kyc(house):
    admin = house.admin()
    submit(house, admin)
    answer = decide(house, admin, admin.user_id, "approved")
    assert answer.status_code == 403
    assert answer.json()["code"] == "own_kyc_decision"


def test_age_is_counted_on_the_indian_calendar(house, clock):
    person = house.person()
    today = date(2026, 11, 23)
    minor = submit(house, person, date_of_birth=str(today.replace(year=2008, day=24)))
    assert (minor.status_code, minor.json()["code"]) == (422, "age_refused")
    assert submit(house, person, date_of_birth=str(today.replace(year=2008))).status_code == 201


BAD_FORMS = [
    {"pan": "ABCDE12345"},
    {"pan": "ABCD1234F"},
    {"pan": "1BCDE1234F"},
    {"pan": "ABCPE1234F; DROP"},
    {"pan": "ABCPE１234F"},
    {"pan": ""},
    {"date_of_birth": "1990-02-30"},
    {"date_of_birth": "yesterday"},
    {"legal_name": ""},
    {"address": "x"},
    {"address": "a\u0000bcdef"},
    {"status": "approved"},
    {"user_id": str(uuid4())},
]


def test_bad_forms_are_refused_and_nothing_is_written(house):
    person = house.person()
    for change in BAD_FORMS:
        assert submit(house, person, **change).status_code == 422, change
    assert house.rows("SELECT 1 FROM kyc_records") == []


def test_impossible_births_are_refused(house):
    person = house.person()
    for born in ["2030-01-01", "1800-01-01", "0001-01-01", "9999-12-31"]:
        assert submit(house, person, date_of_birth=born).json()["code"] == "age_refused", born


def test_kyc_routes_need_their_callers(house):
    person, other, admin = house.person(), house.person(), house.admin()
    assert house.post("/kyc", FORM).status_code == 401
    assert house.client.get("/api/v1/kyc").status_code == 401
    submit(house, person)
    assert kyc(house, other).json()["legal_name"] is None
    for path in ("/admin/users", "/users"):
        url = f"/api/v1{path}/{person.user_id}/kyc-status"
        assert house.client.put(url, json={"status": "approved"}).status_code == 401
        assert decide(house, other, person.user_id, "approved", path=path).status_code == 403
        assert decide(house, person, person.user_id, "approved", path=path).status_code == 403
        assert decide(house, admin, uuid4(), "approved", path=path).status_code == 404
        assert decide(house, admin, "no-uuid", "approved", path=path).status_code == 422
        assert decide(house, admin, person.user_id, "none", path=path).status_code == 422
