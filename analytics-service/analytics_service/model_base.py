"""The metadata that all tables of this room are part of."""

from datetime import datetime

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from common import catching_up, idempotency, outbox
from common.db import NAMING, UtcDateTime


class Base(DeclarativeBase):
    """All tables of this room."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)
idempotency.add_tables(Base.metadata)
