//! Tables of PostgreSQL, in a real server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use glovebox_source_protocol::{
    ColumnType, Comparison, Connection, DESCRIBE, Held, Hint, Literal, PIN, Pin, Place, READ, Read, Request,
    RowsReader, Secret, schema,
};

use crate::server_of_postgres::{PASSWORD, Postgres};
use crate::support::{Table, wanted};

const SALES: &str = "CREATE TABLE sales (id int4 NOT NULL, name text, spent numeric(9,2)); \
                     INSERT INTO sales SELECT n, 'n' || n, n / 4.0 FROM generate_series(1, 10) n; \
                     GRANT SELECT ON sales TO agent";

pub(crate) fn connection(server: &Postgres) -> Connection {
    let host = server.folder().display().to_string();
    let options = [("host", host.as_str()), ("user", "agent"), ("database", "shop")];
    Connection {
        owner: "retailer".into(),
        kind: "postgres".into(),
        program: None,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        secrets: [("password".to_owned(), Secret::Environment("SHOP_SECRET".into()))].into(),
    }
}

fn through(connection: Connection, table: &str) -> Table {
    Table {
        folder: Path::new("/").into(),
        place: Place::Behind { connection, table: table.into() },
        environment: vec![("SHOP_SECRET", PASSWORD)],
    }
}

fn table(server: &Postgres, table: &str) -> Table {
    through(connection(server), table)
}

fn sales() -> (Postgres, Table) {
    let server = Postgres::start();
    server.sql(SALES);
    let table = table(&server, "public.sales");
    (server, table)
}

/// A reader that is at work, and ends with its handle.
struct Reader {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Reader {
    fn start(table: &Table, task: &str, request: &Request) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_glovebox-source"))
            .arg(task)
            .env_clear()
            .envs(table.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let request = serde_json::to_vec(request).expect("JSON");
        child.stdin.take().expect("a pipe").write_all(&request).expect("the program listens");
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    /// One that keeps what it pinned, and the name of that.
    fn pin(table: &Table) -> (Self, Pin, String) {
        let request = Request { place: table.place.clone(), version: None, hold: true, read: None };
        let mut reader = Self::start(table, PIN, &request);
        let mut line = || {
            let mut line = String::new();
            reader.output.as_mut().expect("a pipe").read_line(&mut line).expect("a line");
            line
        };
        let pin = serde_json::from_str(&line()).expect("a pin");
        let Held { snapshot } = serde_json::from_str(&line()).expect("a snapshot");
        (reader, pin, snapshot)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn of_snapshot(pin: &Pin, columns: &[&str], snapshot: &str) -> Read {
    Read { snapshot: Some(snapshot.into()), ..wanted(pin, columns, Vec::new()) }
}

#[test]
fn values_of_every_type_cross_exactly() {
    let server = Postgres::start();
    server.sql(
        "CREATE SCHEMA \"Shop\"; CREATE TABLE \"Shop\".\"a \"\"b\"\".c\" (\
         b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(38,10), n0 numeric(5), t text NOT NULL, \
         v varchar(20), c char(4), u uuid, d date, ts timestamp, tz timestamptz, \
         x1 numeric, x2 jsonb, x3 int4[], x4 bytea, x5 numeric(5,-2), x6 numeric(2,5), x7 interval, x8 time, x9 \"char\", \
         x10 numeric(39,0)); \
         INSERT INTO \"Shop\".\"a \"\"b\"\".c\" VALUES (true, -32768, 2147483647, -9223372036854775808, 0.5, -0.1, \
         -1234567890123456789012345678.0123456789, 99999, 'Zoë ''\"', 'v', 'ab', \
         'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '1969-12-31', '1999-12-31 23:59:59.999999', \
         '2024-02-29 12:00:00.000001+02', 1); \
         INSERT INTO \"Shop\".\"a \"\"b\"\".c\" (t) VALUES (''); \
         GRANT USAGE ON SCHEMA \"Shop\" TO agent; GRANT SELECT ON ALL TABLES IN SCHEMA \"Shop\" TO agent",
    );
    let table = table(&server, "Shop.a \"b\".c");
    let pin = table.pin();
    let names: Vec<&str> = pin.columns.iter().map(|column| column.name.as_str()).collect();
    let all = ["b", "i2", "i4", "i8", "f4", "f8", "n", "n0", "t", "v", "c", "u", "d", "ts", "tz"];
    assert_eq!(names, all);
    let nullable: Vec<&str> = pin.columns.iter().filter(|column| !column.nullable).map(|c| c.name.as_str()).collect();
    assert_eq!(nullable, ["t"]);
    assert_eq!(pin.columns[6].kind, ColumnType::Decimal(38, 10));
    let expected = "true,-32768,2147483647,-9223372036854775808,0.5,-0.1,\
                    -1234567890123456789012345678.0123456789,99999,Zoë '\",v,ab  ,\
                    a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,1969-12-31,1999-12-31T23:59:59.999999,\
                    2024-02-29T10:00:00.000001Z";
    assert_eq!(table.rows(&pin, &all, Vec::new()), [",".repeat(14).as_str(), expected]);
    assert_eq!(table.rows(&pin, &["tz", "b"], Vec::new()), [",", "2024-02-29T10:00:00.000001Z,true"]);
    assert_eq!(table.rows(&pin, &[], Vec::new()).len(), 2);
}

/// A pin looks at no value: what cannot cross ends the reading.
#[test]
fn a_value_that_has_no_place_is_no_other_value() {
    for (kind, value) in
        [("date", "infinity"), ("timestamp", "-infinity"), ("timestamptz", "infinity"), ("numeric(5,2)", "NaN")]
    {
        let server = Postgres::start();
        server.sql(&format!(
            "CREATE TABLE odd (v {kind}); INSERT INTO odd VALUES ('{value}'); GRANT SELECT ON odd TO agent"
        ));
        let table = table(&server, "public.odd");
        let pin = table.pin();
        let output = table.output(READ, None, Some(wanted(&pin, &["v"], Vec::new())));
        let rows = RowsReader::new(output.stdout.as_slice(), schema(&pin.columns)).unwrap().unwrap();
        assert!(rows.last().unwrap().is_err() && !output.status.success(), "{kind}");
    }
}

#[test]
fn a_pin_is_of_the_rows_whatever_their_order() {
    let (server, table) = sales();
    let pin = table.pin();
    server.sql("UPDATE sales SET name = name WHERE id < 4; VACUUM FULL sales");
    assert_ne!(server.sql("SELECT id FROM sales LIMIT 1"), "1\n");
    assert_eq!(table.pin(), pin);
    assert_eq!(table.rows(&pin, &["id"], Vec::new()).len(), 10);
    let read = || Some(wanted(&pin, &["id"], Vec::new()));
    for (change, back) in [
        ("UPDATE sales SET spent = 0 WHERE id = 1", "UPDATE sales SET spent = 0.25 WHERE id = 1"),
        ("INSERT INTO sales VALUES (11)", "DELETE FROM sales WHERE id = 11"),
        ("DELETE FROM sales WHERE id = 1", "INSERT INTO sales VALUES (1, 'n1', 0.25)"),
    ] {
        server.sql(change);
        table.refuses(READ, read(), "SOURCE_CHANGED", "rows are not what they were");
        server.sql(back);
        assert_eq!(table.pin(), pin, "{back}");
    }
    server.sql("ALTER TABLE sales ALTER id TYPE int8");
    assert_eq!(table.pin().columns, pin.columns);
    for change in ["ALTER TABLE sales ALTER id TYPE float8", "ALTER TABLE sales DROP name"] {
        server.sql(change);
        table.refuses(READ, read(), "SOURCE_CHANGED", "columns are not what they were");
    }
    server.sql("DROP TABLE sales");
    table.refuses(READ, read(), "SOURCE_UNREADABLE", "no such table");
}

#[test]
fn what_is_kept_is_read_whatever_is_written_meanwhile() {
    let (server, table) = sales();
    let (reader, pin, snapshot) = Reader::pin(&table);
    server.sql("UPDATE sales SET spent = 0; DELETE FROM sales WHERE id > 5; INSERT INTO sales VALUES (11)");
    // No snapshot would survive these.
    for statement in ["TRUNCATE sales", "DROP TABLE sales", "ALTER TABLE sales ALTER id TYPE float8"] {
        assert!(
            !server.psql("shop", &format!("SET lock_timeout = '100ms'; {statement}")).status.success(),
            "{statement}"
        );
    }
    let read = |columns: &[&str]| of_snapshot(&pin, columns, &snapshot);
    let output = table.output(READ, None, Some(read(&["id", "spent"])));
    let columns = [pin.columns[0].clone(), pin.columns[2].clone()];
    let rows = RowsReader::new(output.stdout.as_slice(), schema(&columns)).unwrap().unwrap();
    assert_eq!(rows.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 10);
    drop(reader);
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent'") != "0\n" {}
    table.refuses(READ, Some(read(&["id"])), "SOURCE_CHANGED", "snapshot that was pinned is gone");
    table.refuses(READ, Some(of_snapshot(&pin, &["id"], "'; DROP TABLE sales; --")), "SOURCE_CHANGED", "is gone");
}

/// A snapshot does not survive `TRUNCATE`, whoever has imported it: the table would seem to have had no rows.
#[test]
fn a_table_that_is_emptied_while_a_reader_waits_is_not_what_was_pinned() {
    let (server, table) = sales();
    let (keeper, pin, snapshot) = Reader::pin(&table);
    let waiting = |number: &str| {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'sales'::regclass";
        while server.sql(waiting).trim_end() != number {}
    };
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql("TRUNCATE sales"));
        waiting("1");
        let read = of_snapshot(&pin, &["id"], &snapshot);
        scope.spawn(|| table.refuses(READ, Some(read), "SOURCE_CHANGED", "snapshot that was pinned is gone"));
        waiting("2");
        drop(keeper);
    });
}

/// A run that is killed leaves no transaction open at anybody's server.
#[test]
fn whoever_keeps_a_snapshot_ends_with_who_asked() {
    let (_server, table) = sales();
    let (mut reader, ..) = Reader::pin(&table);
    drop(reader.output.take());
    assert!(reader.child.wait().expect("it ends").success());
}

#[test]
fn hints_leave_out_rows_that_the_run_would() {
    let server = Postgres::start();
    server.sql(
        "CREATE TABLE words (id int2, word text, padded char(3), key uuid); INSERT INTO words VALUES \
         (1, 'a', 'a', '00000000-0000-0000-0000-000000000001'), (2, 'B', 'B', NULL), (3, 'it''s', 'it', NULL), \
         (4, NULL, NULL, NULL); GRANT SELECT ON words TO agent",
    );
    let table = table(&server, "public.words");
    let pin = table.pin();
    let rows = |column: &str, is, to| table.rows(&pin, &["id"], vec![Hint { column: column.into(), is, to }]).join("");
    let text = |text: &str| Literal::Utf8(text.into());
    use Comparison::{AtLeast, AtMost, Equal, Greater, Less};
    assert_eq!(rows("id", Greater, Literal::Int64(i64::from(i16::MAX) + 1)), "");
    assert_eq!(rows("id", AtLeast, Literal::Int64(-5)), "1234");
    assert_eq!(rows("id", AtMost, Literal::Int64(2)), "12");
    assert_eq!(rows("word", Equal, text("it's")), "3");
    // By bytes: whatever the database thinks of capitals.
    assert_eq!(rows("word", Less, text("a")), "2");
    assert_eq!(rows("key", Equal, text("00000000-0000-0000-0000-000000000001")), "1");
    // What the server compares otherwise than the run is not asked of it.
    assert_eq!(rows("padded", Equal, text("a  ")), "1234");
    assert_eq!(rows("word", Equal, text("\0")), "1234");
    assert_eq!(rows("word", Equal, Literal::Int64(1)), "1234");
}

#[test]
fn what_the_server_does_not_give() {
    let (server, mut table) = sales();
    server.sql(
        "CREATE TABLE secret (id int4); CREATE TABLE few (id int4); ALTER TABLE few ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY low ON few USING (id < 3); CREATE VIEW seen AS SELECT random(); \
         GRANT SELECT ON few, seen TO agent",
    );
    for (name, code, fact) in [
        ("public.nothing", "SOURCE_UNREADABLE", "no such table"),
        ("nowhere.sales", "SOURCE_UNREADABLE", "no such table"),
        ("public.secret", "SOURCE_UNREADABLE", "may not read all"),
        ("public.few", "SOURCE_UNREADABLE", "may not read all"),
        ("public.seen", "SOURCE_UNSUPPORTED", "is no table"),
        ("sales", "SOURCE_UNREADABLE", "SCHEMA.TABLE"),
        ("public.sales; DROP TABLE sales", "SOURCE_UNREADABLE", "no such table"),
    ] {
        through(connection(&server), name).refuses(PIN, None, code, fact);
    }
    table.environment = vec![("SHOP_SECRET", "another")];
    for task in [DESCRIBE, PIN] {
        table.refuses(task, None, "SOURCE_UNREADABLE", "nobody with these credentials");
    }
    table.environment = vec![("PGPASSWORD", PASSWORD)];
    table.refuses(PIN, None, "REQUEST_INVALID", "SHOP_SECRET");
    server.stop();
    table.environment = vec![("SHOP_SECRET", PASSWORD)];
    table.refuses(PIN, None, "SOURCE_UNREADABLE", "does not answer");
    server.run();
    table.pin();
}

#[test]
fn entries_for_a_server_that_make_no_sense() {
    let server = Postgres::start();
    let refuses = |change: &dyn Fn(&mut Connection), fact: &str| {
        let mut connection = connection(&server);
        change(&mut connection);
        through(connection, "public.sales").refuses(PIN, None, "REQUEST_INVALID", fact);
    };
    refuses(&|connection| drop(connection.options.insert("colour".into(), "red".into())), "colour");
    refuses(&|connection| drop(connection.options.insert("port".into(), "many".into())), "port");
    for option in ["host", "user", "database"] {
        refuses(&|connection| drop(connection.options.remove(option)), option);
    }
}

#[test]
fn a_server_that_stops_in_the_middle() {
    let server = Postgres::start();
    server.sql(
        "CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 40) AS t FROM generate_series(1, 60000) n; \
         GRANT SELECT ON wide TO agent",
    );
    let table = table(&server, "public.wide");
    let pin = table.pin();
    let read = Some(wanted(&pin, &["n", "t"], Vec::new()));
    let request = Request { place: table.place.clone(), version: None, hold: false, read };
    let mut reader = Reader::start(&table, READ, &request);
    let mut output = reader.output.take().expect("a pipe");
    output.fill_buf().expect("rows are on their way");
    server.stop();
    let mut rows = RowsReader::new(output, schema(&pin.columns)).unwrap().unwrap();
    assert!(rows.by_ref().any(|batch| batch.is_err()), "a part of the rows passes for all");
    assert!(!reader.child.wait().expect("it ends").success());
}

/// Over a network only by TLS, and only to the server that the connection means.
#[test]
fn a_server_across_a_network() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["server", "other"] {
        let certificate = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &format!("{name}.key"), "-out"])
            .arg(format!("{name}.crt"))
            .current_dir(folder.path())
            .output();
        assert!(certificate.expect("openssl").status.success());
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Postgres::start_at(port, "listen_addresses = 'localhost'");
    server.sql(SALES);
    let connect = |change: &[(&str, &str)]| {
        let mut connection = connection(&server);
        let set = [("host", "localhost"), ("port", &port.to_string())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        connection.options.extend(set);
        connection.options.extend(change.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
        through(connection, "public.sales")
    };
    connect(&[]).refuses(PIN, None, "SOURCE_UNREADABLE", "does not answer as it must");
    let plain = connect(&[("allow_plain", "true")]).pin();

    let data = server.data();
    for ending in ["crt", "key"] {
        let bytes = fs::read(folder.path().join(format!("server.{ending}"))).unwrap();
        let path = data.join(format!("server.{ending}"));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&data).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    server.stop();
    let settings = server.folder().join("settings");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + "ssl = on\n").unwrap();
    server.run();
    let root = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(connect(&[("root_certificate", &root("server.crt"))]).pin(), plain);
    for root in [root("other.crt"), root("server.key")] {
        let output = connect(&[("root_certificate", &root)]).output(PIN, None, None);
        assert!(!output.status.success(), "{root}");
    }
    connect(&[]).refuses(PIN, None, "SOURCE_UNREADABLE", "does not answer as it must");
    let other_name = connect(&[("host", "127.0.0.1"), ("root_certificate", &root("server.crt"))]);
    other_name.refuses(PIN, None, "SOURCE_UNREADABLE", "does not answer as it must");
}
