//! The data of the fixture's two parties: rows that a test can count by itself, and the same rows as Parquet files.
//!
//! Every value is a function of the household's number, so there is nothing to seed and nothing to store.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

/// How many households the retailer knows. A number that turns up nowhere by chance.
pub(crate) const HOUSEHOLDS: i64 = 397;

/// The households of the view that the evil question gets: few, because some attacks use up all their fuel.
pub(crate) const EVIL_HOUSEHOLDS: i64 = 60;

/// A line of a receipt in the retailer's shop.
pub(crate) struct Purchase {
    pub(crate) household: i64,
    pub(crate) basket: i64,
    pub(crate) sales_value: f64,
    pub(crate) income_band: &'static str,
    pub(crate) category: Option<&'static str>,
}

/// A campaign that the brand sent to a household.
pub(crate) struct Campaign {
    pub(crate) household: i64,
    pub(crate) campaign: i64,
    pub(crate) kind: &'static str,
}

/// What the retailer sold: one to three baskets of two lines per household.
pub(crate) fn purchases() -> Vec<Purchase> {
    let lines = |household: i64| {
        (0..2 * (1 + household % 3)).map(move |line| Purchase {
            household,
            basket: household * 10 + line / 2,
            sales_value: ((household * 37 + line * 11) % 500 + 1) as f64 / 4.0,
            income_band: band(household),
            category: match (household + line) % 5 {
                0 | 1 => Some("SOFT DRINKS"),
                2 => None,
                _ => Some("CHEESE"),
            },
        })
    };
    (1..=HOUSEHOLDS).flat_map(lines).collect()
}

fn band(household: i64) -> &'static str {
    match household % 10 {
        0..=3 => "under 35K",
        4..=6 => "35-74K",
        7 | 8 => "75K+",
        _ => "unknown",
    }
}

/// What the brand sent. It knows households that the retailer does not, and not all of the retailer's.
pub(crate) fn campaigns() -> Vec<Campaign> {
    let mut campaigns = Vec::new();
    for household in (1..=HOUSEHOLDS + 40).filter(|household| household % 11 != 0) {
        let mut send = |campaign, kind| campaigns.push(Campaign { household, campaign, kind });
        if household % 3 != 0 {
            send(8, "Type A");
            // A second campaign of the same type must not count the household twice.
            send(13, "Type A");
        } else {
            send(18, "Type B");
        }
        // 16 households of one band: a group that no owner's k lets out.
        if household % 20 == 7 && household > 7 && household < HOUSEHOLDS {
            send(30, "Type C");
        }
    }
    campaigns
}

/// Households that redeemed a coupon, with the campaign.
pub(crate) fn redemptions() -> Vec<(i64, i64)> {
    (1..=HOUSEHOLDS).filter(|household| household % 7 == 0).map(|household| (household, 18)).collect()
}

/// Writes the files of both parties below `data`.
pub(super) fn write(data: &Path) {
    let households: Vec<i64> = (1..=HOUSEHOLDS).collect();
    write_parquet(
        &data.join("retailer/households.parquet"),
        &[("household_id", ints(households.clone())), ("value", floats(households.iter().map(|h| *h as f64)))],
    );
    let purchases = purchases();
    write_parquet(
        &data.join("retailer/purchases.parquet"),
        &[
            ("household_id", ints(purchases.iter().map(|p| p.household).collect())),
            ("basket_id", ints(purchases.iter().map(|p| p.basket).collect())),
            ("sales_value", floats(purchases.iter().map(|p| p.sales_value))),
            ("income_band", texts(purchases.iter().map(|p| Some(p.income_band)))),
            ("product_category", texts(purchases.iter().map(|p| p.category))),
        ],
    );
    let campaigns = campaigns();
    write_parquet(
        &data.join("brand/campaigns.parquet"),
        &[
            ("household_id", ints(campaigns.iter().map(|c| c.household).collect())),
            ("campaign_id", ints(campaigns.iter().map(|c| c.campaign).collect())),
            ("campaign_type", texts(campaigns.iter().map(|c| Some(c.kind)))),
        ],
    );
    let (households, campaigns) = redemptions().into_iter().unzip();
    write_parquet(
        &data.join("brand/redemptions.parquet"),
        &[("household_id", ints(households)), ("campaign_id", ints(campaigns))],
    );
}

/// Writes the same rows into every Parquet file below `data`, beside a word that no one reads.
pub(super) fn renew(data: &Path) {
    for folder in ["retailer", "brand"] {
        for path in std::fs::read_dir(data.join(folder)).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            let bytes = bytes::Bytes::from(std::fs::read(&path).expect("readable"));
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet").build().expect("a reader");
            let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("rows")).collect();
            let word = format!("{:?}", std::time::Instant::now());
            let properties =
                WriterProperties::builder().set_key_value_metadata(Some(vec![KeyValue::new("word".into(), word)]));
            let schema = batches[0].schema();
            let file = File::create(&path).expect("a file");
            let mut writer = ArrowWriter::try_new(file, schema, Some(properties.build())).expect("a schema");
            batches.iter().for_each(|batch| writer.write(batch).expect("written"));
            writer.close().expect("closed");
        }
    }
}

/// Writes a Parquet file with the given columns.
pub(crate) fn write_parquet(path: &Path, columns: &[(&str, ArrayRef)]) {
    let columns = columns.iter().map(|(name, array)| (*name, Arc::clone(array), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length");
    let mut writer = ArrowWriter::try_new(File::create(path).expect("a file"), batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
}

pub(crate) fn ints(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

pub(crate) fn floats(values: impl Iterator<Item = f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter_values(values))
}

pub(crate) fn texts(values: impl Iterator<Item = Option<&'static str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}
