"""What operators do with users' money is written down in the transaction that does it."""

from common import audit_chain


def log_of(room, who):
    return room.get(who, "/admin/audit/portfolio-service").json()["items"]


def test_money_moved_by_hand_is_written_down_once(room):
    admin, user = room.customer(roles=("admin",)), room.customer()
    body = {"user_id": str(user.user_id), "amount": "250.50", "reason": "wired on Monday"}
    made = room.post(admin, "/admin/funds/deposit", body, "key-1")
    again = room.post(admin, "/admin/funds/deposit", body, "key-1")
    assert (made.status_code, again.json()) == (201, made.json())
    assert room.post(admin, "/admin/funds/withdraw", {**body, "amount": "50.50"}).status_code == 201

    taken, given = log_of(room, room.customer(roles=("ops",)))

    assert (given["action"], taken["action"]) == ("funds.deposit", "funds.withdrawal")
    assert (given["actor"], given["actor_kind"]) == (str(admin.user_id), "operator")
    assert given["target"] == f"portfolio:{made.json()['funds']['portfolio_id']}"
    assert given["details"] == {
        "user_id": str(user.user_id), "amount_paise": 250_50, "reason": "wired on Monday",
        "transfer_id": made.json()["transfer_id"],
    }  # fmt: skip
    assert given["address"] == "testclient"
    with room.db.transaction() as session:
        assert audit_chain.extend(session) == 2
        assert audit_chain.verify(session).ok


def test_what_was_refused_was_not_done(room):
    admin, user = room.customer(roles=("admin",)), room.customer()
    body = {"user_id": str(user.user_id), "amount": "1.00", "reason": "too much"}
    assert room.post(admin, "/admin/funds/withdraw", body).status_code == 422
    assert log_of(room, admin) == []
