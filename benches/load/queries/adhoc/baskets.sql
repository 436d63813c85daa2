-- Products bought together: a self join of the sales on their order.
-- Exceeds memory: the state is a pair of products for each two lines of an order.
SELECT a.product_key AS product_a,
       b.product_key AS product_b,
       count(*) AS together,
       sum(a.extended_sales_amount + b.extended_sales_amount) AS amount
FROM shop.fact_sales a
JOIN shop.fact_sales b ON b.order_number = a.order_number AND b.product_key > a.product_key
GROUP BY a.product_key, b.product_key
ORDER BY together DESC, amount DESC, product_a, product_b
LIMIT 100
