SELECT d.year,
       d.quarter,
       count(*) AS items,
       sum(f.extended_sales_amount) AS total_sales,
       sum(f.extended_sales_amount - f.extended_discount_amount) AS profit
FROM shop.fact_sales f
JOIN shop.dim_dates d ON d.date_key = f.date_key
WHERE d.year = 2024
GROUP BY d.year, d.quarter
ORDER BY d.year, d.quarter;
