SELECT s.seller_id,
       s.seller_name,
       sum(f.extended_sales_amount) AS total_sales,
       sum(f.extended_sales_amount - f.extended_discount_amount) AS profit
FROM shop.fact_sales f
JOIN shop.dim_sellers s ON s.seller_key = f.seller_key
JOIN shop.dim_dates d ON d.date_key = f.date_key
WHERE d.full_date BETWEEN DATE '2025-01-01' AND DATE '2025-06-30'
GROUP BY s.seller_id, s.seller_name
ORDER BY profit DESC, s.seller_id
LIMIT 10;
