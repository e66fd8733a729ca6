# Tables of households, as their own writers write them.
import datetime, decimal, glob, json, os, sys
import pyarrow as pa
import deltalake
from deltalake import DeltaTable, write_deltalake

table = sys.argv[1]


def households(first, last, country):
    ids = list(range(first, last))
    day = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
    return pa.table({
        "household_id": pa.array(ids, pa.int64()),
        "spent": pa.array([n * 0.5 for n in ids], pa.float64()),
        "visits": pa.array([n % 7 for n in ids], pa.int32()),
        "name": pa.array([None if n % 5 == 0 else f"n{n}" for n in ids], pa.string()),
        "joined": pa.array([day.date()] * len(ids), pa.date32()),
        "seen": pa.array([day] * len(ids), pa.timestamp("us", "UTC")),
        "price": pa.array([decimal.Decimal("1.25")] * len(ids), pa.decimal128(10, 2)),
        "tags": pa.array([["a"]] * len(ids), pa.list_(pa.string())),
        "country": pa.array([country] * len(ids), pa.string()),
    })
