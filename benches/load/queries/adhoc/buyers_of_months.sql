-- Buyers and orders of each product group, by month: two distinct counts over all sales.
SELECT d.year_month,
       p.category,
       count(DISTINCT f.customer_key) AS buyers,
       count(DISTINCT f.order_number) AS orders,
       sum(f.extended_sales_amount) AS amount
FROM shop.fact_sales f
JOIN shop.dim_products p ON p.product_key = f.product_key
JOIN shop.dim_dates d ON d.date_key = f.date_key
GROUP BY d.year_month, p.category
ORDER BY d.year_month, p.category
