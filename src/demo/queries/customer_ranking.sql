SELECT rank() OVER (ORDER BY sum(f.extended_sales_amount - f.extended_discount_amount) DESC) AS place,
       c.customer_id,
       c.customer_name,
       count(DISTINCT f.order_number) AS orders,
       sum(f.extended_sales_amount - f.extended_discount_amount) AS spent
FROM shop.fact_sales f
JOIN shop.dim_customers c ON c.customer_key = f.customer_key
GROUP BY c.customer_id, c.customer_name
ORDER BY place, c.customer_id
LIMIT 20;
