SELECT d.weekday,
       sum(f.extended_sales_amount) AS total_sales,
       count(DISTINCT f.order_number) AS orders
FROM shop.fact_sales f
JOIN shop.dim_dates d ON d.date_key = f.date_key
GROUP BY d.weekday
ORDER BY total_sales DESC;
