//! Which SQL is seen to keep units apart.

use super::*;

/// A room of two tables: purchases by person and product, and people.
fn computes_across(sql: &str) -> bool {
    let folder = Folder::new();
    folder.csv("buys.csv", "id,product,value\n1,2,3.5\n");
    folder.csv("people.csv", "id,other,age\n1,2,30\n");
    let view = view("v", sql, &[("buys", "buys.csv"), ("people", "people.csv")]);
    describe(&folder.host(), &view).unwrap_or_else(|fault| panic!("{sql}: {fault}")).across_units() == ["v"]
}

#[test]
fn sql_that_keeps_units_apart_is_seen_to() {
    for sql in [
        "SELECT id AS unit, value FROM buys",
        "SELECT id AS unit, value * 2 AS a FROM buys WHERE value > 1 OR product = 3",
        "SELECT DISTINCT id AS unit, product FROM buys",
        "SELECT id AS unit, sum(value) AS a FROM buys GROUP BY id",
        "SELECT id AS unit, product, count(*) AS a FROM buys GROUP BY product, id HAVING count(*) > 1",
        "SELECT concat('u', id) AS unit, max(value) AS a FROM buys GROUP BY concat('u', id)",
        "SELECT concat('u', id) AS unit, max(value) AS a FROM buys GROUP BY id",
        "SELECT b.id AS unit, b.value, p.age FROM buys b JOIN people p ON b.id = p.id",
        "SELECT p.id AS unit, b.value, p.age FROM buys b JOIN people p ON p.id = b.id AND p.age > b.value",
        "SELECT id AS unit, value, age FROM buys JOIN people USING (id)",
        "SELECT b.id AS unit, p.age FROM buys b LEFT JOIN people p ON b.id = p.id",
        "SELECT p.id AS unit, p.age FROM buys b RIGHT JOIN people p ON b.id = p.id",
        "SELECT id AS unit, value FROM buys UNION ALL SELECT id, age FROM people",
        "SELECT id AS unit, value FROM buys UNION SELECT other, age FROM people",
        "SELECT t.id AS unit, t.a FROM (SELECT id, sum(value) AS a FROM buys GROUP BY id) t JOIN people p ON t.id = p.id",
        "SELECT id AS unit, value FROM buys ORDER BY value",
    ] {
        assert!(!computes_across(sql), "{sql}");
    }
}

#[test]
fn sql_that_may_mix_units_is_said_to() {
    for sql in [
        "SELECT id AS unit, value FROM buys WHERE value > (SELECT avg(value) FROM buys)",
        "SELECT id AS unit, (SELECT max(age) FROM people) AS a FROM buys",
        "SELECT id AS unit, value FROM buys WHERE id IN (SELECT id FROM people)",
        "SELECT id AS unit, value FROM buys b WHERE EXISTS (SELECT 1 FROM people p WHERE p.other = b.id)",
        "SELECT max(id) AS unit, product FROM buys GROUP BY product",
        "SELECT max(id) AS unit FROM buys",
        "SELECT id AS unit, product FROM (SELECT product, max(id) AS id FROM buys GROUP BY product) t WHERE id > 1",
        "SELECT id % 2 AS unit, n FROM (SELECT id, product, count(*) AS n FROM buys GROUP BY id, product) t JOIN (SELECT other FROM people) p ON t.product = p.other",
        "SELECT b.id AS unit, p.age FROM buys b JOIN people p ON b.product = p.other",
        "SELECT b.id AS unit, p.age FROM buys b, people p",
        "SELECT b.id AS unit, p.age FROM buys b JOIN people p ON b.id > p.id",
        "SELECT b.id AS unit, p.age FROM buys b JOIN people p ON b.id = p.id OR b.id = p.other",
        "SELECT p.id AS unit, b.value FROM buys b LEFT JOIN people p ON b.id = p.id",
        "SELECT coalesce(b.id, p.id) AS unit FROM buys b FULL JOIN people p ON b.id = p.id",
        "SELECT t.id AS unit, t.n FROM buys b JOIN (SELECT other AS id, max(id) AS n FROM people GROUP BY other) t ON b.id = t.n",
        "SELECT b.id AS unit, t.n FROM buys b JOIN (SELECT max(id) AS id, count(*) AS n FROM people GROUP BY other) t ON b.id = t.id",
        "SELECT id AS unit, count(*) AS n FROM buys GROUP BY ROLLUP (id, product)",
        "SELECT 1 AS unit, value FROM buys",
        "SELECT id AS unit, value FROM buys UNION ALL SELECT max(id), 1.5 FROM people",
    ] {
        assert!(computes_across(sql), "{sql}");
    }
}
