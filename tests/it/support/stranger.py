# A reader that somebody else wrote, in another language: rows of a file of comma-separated numbers. Its option `lie` says
# how it breaks its word.
import json, os, sys
import pyarrow as pa

task, request = sys.argv[1], json.load(sys.stdin)
connection = request["place"]["behind"]["connection"]
options, lie = connection["options"], connection["options"].get("lie", "")


def answer(value):
    print(json.dumps(value), flush=True)


# What Python sets by itself.
environment = {name: value for name, value in os.environ.items() if name not in ("LC_CTYPE", "__CF_USER_TEXT_ENCODING")}
named = [secret["environment"] for secret in connection["secrets"].values()]
if environment != {name: "swordfish" for name in named} or os.getcwd() != "/":
    answer({"code": "REQUEST_INVALID", "fact": "more in the environment than was named", "remedy": "name it"})
    sys.exit(1)

columns = [{"name": "household_id", "type": "int64", "nullable": False},
           {"name": "value", "type": "float64", "nullable": False}]
if task == "describe":
    answer({"columns": columns})
elif task == "pin":
    path = options["file"]
    if lie == "refuse":
        answer({"code": "SOURCE_UNREADABLE", "fact": "line one\nline two.", "remedy": ""})
        sys.exit(1)
    if lie == "nonsense":
        print("rows")
        sys.exit(0)
    if lie == "fail":
        answer({"kind": "numbers", "location": path, "columns": columns, "files": []})
        sys.exit(1)
    answer({"kind": "numbers", "location": path, "columns": columns,
            "files": [{"path": path, "size": os.path.getsize(path)}]})
else:
    read = request["read"]
    lines = [line.split(",") for line in open(read["pin"]["location"]).read().split()]
    table = pa.table({"household_id": pa.array([int(id) for id, _ in lines], pa.int64()),
                      "value": pa.array([float(value) for _, value in lines], pa.float64())})
    schema = pa.schema([pa.field(name, table.schema.field(name).type, False) for name in read["columns"]])
    batches = table.select(read["columns"]).cast(schema).to_batches(max_chunksize=7)
    if lie == "columns":
        schema = pa.schema([pa.field(field.name, pa.string(), False) for field in schema])
        batches = [batch.cast(schema) for batch in batches]
    out = sys.stdout.buffer
    stream = pa.ipc.new_stream(out, schema)
    for batch in batches if lie != "stop" else batches[:-1]:
        stream.write_batch(batch)
    if lie == "stop":
        out.flush()
        os._exit(0)
    stream.close()
    rows = sum(batch.num_rows for batch in batches)
    if lie != "end":
        out.write(json.dumps({"rows": rows + (lie == "count")}).encode() + b"\n")
    out.flush()
    if lie == "exit":
        os._exit(3)
