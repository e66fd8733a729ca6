"""Asks the official client of the Delta Sharing protocol, and prints what it says as JSON.

The first argument is a profile file, the second says what to ask.
"""

import json
import os
import sys

import delta_sharing
import pandas
from delta_sharing.protocol import DeltaSharingProfile
from delta_sharing.rest_client import DataSharingRestClient

profile, asked = sys.argv[1], json.loads(sys.argv[2])


def dotted(table):
    return f"{table.share}.{table.schema}.{table.name}"


def paged(share):
    """All tables of a share, one by one."""
    client = DataSharingRestClient(DeltaSharingProfile.read_from_file(profile))
    tables, token = [], None
    while True:
        page = client.list_all_tables(share, max_results=1, page_token=token)
        tables += [dotted(table) for table in page.tables]
        token = page.next_page_token
        if not token:
            return tables


def listed():
    client = delta_sharing.SharingClient(profile)
    shares = client.list_shares()
    schemas = [schema for share in shares for schema in client.list_schemas(share)]
    return {
        "shares": [share.name for share in shares],
        "schemas": [schema.name for schema in schemas],
        "tables": [dotted(table) for schema in schemas for table in client.list_tables(schema)],
        "all": [dotted(table) for table in client.list_all_tables()],
        "paged": [table for share in shares for table in paged(share)],
    }


def plain(row):
    """A row as JSON has it: days and microseconds since 1970, and no NaN."""
    visit, household, store, spent, day, at = row
    day = (pandas.Timestamp(day) - pandas.Timestamp(0)).days
    at = pandas.Timestamp(at).tz_convert("UTC")
    at = (at - pandas.Timestamp(0, tz="UTC")) // pandas.Timedelta(1, unit="us")
    return [visit, household, None if pandas.isna(store) else store, spent, day, at]


def read():
    try:
        frame = delta_sharing.load_as_pandas(f"{profile}#{asked['table']}", **asked["read"])
    except Exception as error:
        return {"error": str(error)}
    return sorted(plain(row) for row in frame.itertuples(index=False))


print(json.dumps(listed() if "list" in asked else read()), flush=True)
# Done is done: now and then a thread of Arrow's aborts an interpreter that ends by itself.
os._exit(0)
