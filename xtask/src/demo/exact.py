"""The reach question's answer, counted exactly by DuckDB from the same files, beside the released one."""

import sys

import duckdb

ending, released = sys.argv[1:]


def table(path):
    return f"'data/{path}.{ending}'"


exact = duckdb.sql(f"""
    WITH purchases AS (
        SELECT t.household_id, t.basket_id, t.sales_value,
               CASE WHEN d.income IN ('Under 15K', '15-24K', '25-34K') THEN 'under 35K'
                    WHEN d.income IN ('35-49K', '50-74K') THEN '35-74K'
                    WHEN d.income IS NULL THEN 'unknown' ELSE '75K+' END AS income_band
        FROM {table('retailer/transactions')} t LEFT JOIN {table('retailer/demographics')} d USING (household_id)),
    unit AS (
        SELECT household_id, max(income_band) AS income_band, sum(sales_value) AS spend,
               sum(sales_value) / count(DISTINCT basket_id) AS mean_basket
        FROM purchases GROUP BY household_id),
    exposed AS (
        SELECT DISTINCT c.household_id, d.campaign_type
        FROM {table('brand/campaigns')} c JOIN {table('brand/campaign_descriptions')} d USING (campaign_id))
    SELECT campaign_type, income_band, count(*) AS buyers, sum(least(spend, 10000)) AS spend,
           avg(least(mean_basket, 200)) AS mean_basket
    FROM unit JOIN exposed USING (household_id) GROUP BY ALL""").fetchall()
noisy = {row[:2]: row[2:] for row in duckdb.sql(f"SELECT * FROM '{released}'").fetchall()}

print(f"{'':10}{'':10} {'buyers':>8}{'released':>10}{'off':>8} {'spend':>12}{'released':>12}{'off':>8}")
off = {"buyers": [], "spend": []}
for campaign, band, buyers, spend, _ in sorted(exact):
    line = f"{campaign:10}{band:10} {buyers:8}"
    shown = noisy.get((campaign, band), (None,) * 3)
    if shown[0] is None:
        print(f"{line}{'left out':>10}")
        continue
    errors = [shown[0] / buyers - 1, shown[1] / spend - 1]
    off["buyers"].append(abs(errors[0]))
    off["spend"].append(abs(errors[1]))
    print(f"{line}{shown[0]:10}{errors[0]:8.1%} {spend:12.2f}{shown[1]:12.2f}{errors[1]:8.1%}")
for name, errors in off.items():
    if errors:
        print(f"{name}: off by {sorted(errors)[len(errors) // 2]:.1%} in the median group, {max(errors):.1%} at most")
