-- Orders whose lines are compared with their own totals: a self join with all of the line's columns.
-- Exceeds memory: both sides hold every line of all years, wide.
SELECT a.order_number,
       count(*) AS pairs,
       max(a.extended_sales_amount - b.extended_sales_amount) AS spread,
       max(a.extended_discount_amount + b.extended_discount_amount) AS discounts,
       count(DISTINCT a.seller_key) AS sellers,
       min(b.promotion_key) AS promotion,
       max(a.sales_quantity * b.sales_quantity) AS quantities,
       max(b.sold_at) AS sold_at
FROM shop.fact_sales a
JOIN shop.fact_sales b ON b.order_number = a.order_number AND b.customer_key = a.customer_key
GROUP BY a.order_number
ORDER BY spread DESC, a.order_number
LIMIT 100
