//! Folders as sources: every file of one counts, all are alike, and none comes or goes unnoticed.

use std::os::unix::fs::symlink;

use super::*;
use crate::error::Code;
use crate::provision::{Snapshot, source};

/// A room with a folder `t`, and a view of all of it.
fn room() -> (Folder, View) {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("t")).unwrap();
    (folder, view("v", "SELECT unit, a FROM t", &[("t", "t/")]))
}

fn columns(units: &[i64]) -> [(&'static str, ArrayRef); 2] {
    [("unit", ints(units)), ("a", ints(&units.iter().map(|unit| unit * 10).collect::<Vec<_>>()))]
}

fn units(folder: &Folder, view: &View) -> Vec<Text> {
    folder.units(&[(view.clone(), int_slot())], 100, MEMORY).unwrap()
}

#[track_caller]
fn is_refused(folder: &Folder, view: &View, why: &str) {
    let fault = folder.units(&[(view.clone(), int_slot())], 100, MEMORY).unwrap_err();
    assert_eq!((fault.code(), fault.fact()), (Code::ViewUnreadable, why));
}

#[test]
fn a_folder_is_all_of_its_files_and_nothing_else() {
    for ending in ["parquet", "csv", "arrow"] {
        let (folder, view) = room();
        let write = |name: &str, units: &[i64]| {
            let name = format!("t/{name}.{ending}");
            match ending {
                "parquet" => folder.parquet(&name, &columns(units)),
                "arrow" => folder.arrow(&name, &[batch(&columns(units)), batch(&columns(units))]),
                _ => folder
                    .csv(&name, &units.iter().fold("unit,a\n".to_owned(), |all, u| format!("{all}{u},{}\n", u * 10))),
            }
        };
        write("2026-02", &[2, 3]);
        write("2026-01", &[1, 2]);
        write(".hidden", &[9]);
        std::fs::create_dir(folder.path("t/old")).unwrap();
        write("old/2025-12", &[8]);
        let times = if ending == "arrow" { 2 } else { 1 };
        let rows = |a: &str, files: usize| vec![vec![a.to_owned(); files * times]];
        let expected = [("1", "10", 1), ("2", "20", 2), ("3", "30", 1)];
        let expected: Vec<Text> = expected.iter().map(|(unit, a, files)| ((*unit).into(), rows(a, *files))).collect();
        assert_eq!(units(&folder, &view), expected, "{ending}");

        let digested = source::digest(&folder.host(), &view, &[]).unwrap();
        let paths: Vec<_> = digested.iter().map(|(digest, _)| digest.source.clone()).collect();
        assert_eq!(paths, [format!("t/2026-01.{ending}"), format!("t/2026-02.{ending}")]);
    }
}

#[test]
fn files_of_other_columns_are_refused_by_name() {
    for (ending, other) in [
        ("csv", "unit,b\n1,10\n"),
        ("csv", "a,unit\n1,10\n"),
        ("csv", "unit,a,b\n1,10,1\n"),
        ("csv", "unit,a\n1,1.5\n"),
    ] {
        let (folder, view) = room();
        folder.csv(&format!("t/a.{ending}"), "unit,a\n1,10\n");
        folder.csv(&format!("t/b.{ending}"), other);
        is_refused(&folder, &view, "source `t/b.csv` of view v has other columns than `t/a.csv`");
    }
    for ending in ["parquet", "arrow"] {
        let (folder, view) = room();
        let small: ArrayRef = Arc::new(Int32Array::from(vec![10]));
        for (name, a) in [("a", ints(&[10])), ("b", small)] {
            let columns = [("unit", ints(&[1])), ("a", a)];
            match ending {
                "parquet" => folder.parquet(&format!("t/{name}.parquet"), &columns),
                _ => folder.arrow(&format!("t/{name}.arrow"), &[batch(&columns)]),
            }
        }
        let why = format!("source `t/b.{ending}` of view v has other columns than `t/a.{ending}`");
        is_refused(&folder, &view, &why);
    }
}

/// What one file says of nulls, the others need not.
#[test]
fn files_that_differ_in_their_nulls_are_one_table() {
    for ending in ["parquet", "arrow"] {
        let (folder, view) = room();
        let strict = RecordBatch::try_from_iter([("unit", ints(&[1])), ("a", ints(&[10]))]).unwrap();
        let loose = batch(&[("unit", ints(&[2, 3])), ("a", some_ints(&[Some(20), None]))]);
        for (name, rows) in [("a", strict), ("b", loose)] {
            match ending {
                "parquet" => write_parquet(&folder.path(&format!("t/{name}.parquet")), &rows),
                _ => folder.arrow(&format!("t/{name}.arrow"), &[rows]),
            }
        }
        let found = folder.units(&[(view, nullable(int_slot()))], 100, MEMORY).unwrap();
        let found: Vec<_> = found.iter().map(|(unit, rows)| (unit.as_str(), rows[0][0].as_str())).collect();
        assert_eq!(found, [("1", "10"), ("2", "20"), ("3", "-")], "{ending}");
    }
}

#[test]
fn folders_that_are_not_of_one_kind_are_refused() {
    let (folder, view) = room();
    is_refused(&folder, &view, "source `t/` of view v has no files");
    folder.csv("t/.a.csv", "unit,a\n1,10\n");
    std::fs::create_dir(folder.path("t/old")).unwrap();
    is_refused(&folder, &view, "source `t/` of view v has no files");

    folder.csv("t/b.csv", "unit,a\n1,10\n");
    folder.csv("t/README", "unit,a\n1,10\n");
    is_refused(&folder, &view, "source `t/README` of view v ends in none of .parquet, .csv, .arrow");
    std::fs::remove_file(folder.path("t/README")).unwrap();

    folder.parquet("t/c.parquet", &columns(&[1]));
    is_refused(
        &folder,
        &view,
        "source `t/c.parquet` of view v has another ending than the files before it in its folder",
    );
    std::fs::remove_file(folder.path("t/c.parquet")).unwrap();

    // Left out, it would look as if it were read.
    symlink(folder.path("t/b.csv"), folder.path("t/d.csv")).unwrap();
    let fault = folder.units(&[(view.clone(), int_slot())], 100, MEMORY).unwrap_err();
    assert!(fault.fact().starts_with("source `t/d.csv` of view v cannot be opened: "), "{fault}");
    std::fs::remove_file(folder.path("t/d.csv")).unwrap();

    (0..256).for_each(|n| folder.csv(&format!("t/n{n}.csv"), "unit,a\n1,10\n"));
    is_refused(&folder, &view, "source `t/` of view v has more than 256 files");
    std::fs::remove_file(folder.path("t/n7.csv")).unwrap();
    assert_eq!(units(&folder, &view), [("1".to_owned(), vec![vec!["10".to_owned(); 100]])]);

    std::fs::rename(folder.path("t"), folder.path("u")).unwrap();
    symlink("u", folder.path("t")).unwrap();
    let fault = folder.units(&[(view, int_slot())], 100, MEMORY).unwrap_err();
    assert!(fault.fact().starts_with("source `t/` of view v cannot be listed: "), "{fault}");
}

/// What is digested is what is read, also where that is a folder.
#[test]
fn a_file_that_comes_or_goes_after_the_digest_is_noticed() {
    let open_with = |folder: &Folder, view: &View, snapshot: &Snapshot| {
        let bound = bind(view.clone(), &int_slot(), describe(&folder.host(), view).unwrap().sha256());
        open(&folder.host(), &[(&bound, &int_slot())], 100, &MEMORY, Some(snapshot)).map(drop)
    };
    let (folder, view) = room();
    for name in ["a", "b"] {
        folder.parquet(&format!("t/{name}.parquet"), &columns(&[1, 2]));
    }
    let snapshot = Snapshot(source::digest(&folder.host(), &view, &[]).unwrap());
    open_with(&folder, &view, &snapshot).unwrap();
    let is_noticed = || {
        let fault = open_with(&folder, &view, &snapshot).unwrap_err();
        assert_eq!(fault.fact(), "a file of view v was replaced while the run began");
    };
    folder.parquet("t/c.parquet", &columns(&[3]));
    is_noticed();
    std::fs::remove_file(folder.path("t/c.parquet")).unwrap();
    open_with(&folder, &view, &snapshot).unwrap();
    std::fs::rename(folder.path("t/b.parquet"), folder.path("b.parquet")).unwrap();
    is_noticed();
}

/// A file of another kind that takes the place of the digested ones is not looked at: of a CSV file that is reading.
#[test]
fn files_are_compared_with_the_digest_before_they_are_read() {
    let (folder, view) = room();
    folder.parquet("t/a.parquet", &columns(&[1]));
    let snapshot = Snapshot(source::digest(&folder.host(), &view, &[]).unwrap());
    assert!(!snapshot.infers_types());
    let bound = bind(view.clone(), &int_slot(), describe(&folder.host(), &view).unwrap().sha256());
    std::fs::remove_file(folder.path("t/a.parquet")).unwrap();
    folder.csv("t/a.csv", "\"");
    let fault = open(&folder.host(), &[(&bound, &int_slot())], 100, &MEMORY, Some(&snapshot)).map(drop).unwrap_err();
    assert_eq!(fault.fact(), "a file of view v was replaced while the run began");
    assert!(Snapshot(source::digest(&folder.host(), &view, &[]).unwrap()).infers_types());
}

/// A file that is unlinked while its rows are read: it is another folder by then.
#[test]
fn a_file_that_goes_while_it_is_read_is_noticed() {
    let (folder, view) = room();
    folder.parquet("t/a.parquet", &columns(&[1]));
    folder.parquet("t/b.parquet", &columns(&[2]));
    let open_sources = source::open(&folder.host(), &view).unwrap();
    let files: Vec<_> = open_sources.iter().flat_map(|source| source.files()).map(|open| &open.file).collect();
    assert!(files.iter().all(|file| file.is_unchanged()));
    // The clock of a file system ticks every few milliseconds.
    std::thread::sleep(std::time::Duration::from_millis(50));
    std::fs::remove_file(folder.path("t/b.parquet")).unwrap();
    assert!(!files[1].is_unchanged());
}
