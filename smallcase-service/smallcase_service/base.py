"""The base of all tables of smallcase-service, and the tables that come from common."""

from datetime import datetime

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from common import catching_up, idempotency, outbox
from common.db import NAMING, UtcDateTime


class Base(DeclarativeBase):
    """All tables of this room."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012


idempotency.add_tables(Base.metadata)
outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)
