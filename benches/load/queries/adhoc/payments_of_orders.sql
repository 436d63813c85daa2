-- Orders paid otherwise than sold: both facts, joined on an order of its own for each row.
-- Exceeds memory: a group for every order on both sides of the join.
SELECT s.order_number, s.customer_key, s.items, s.net, p.payments, p.paid, s.net - p.paid AS open_amount
FROM (
    SELECT order_number,
           customer_key,
           count(*) AS items,
           sum(extended_sales_amount - extended_discount_amount) AS net
    FROM shop.fact_sales
    GROUP BY order_number, customer_key
) s
JOIN (
    SELECT order_number, count(*) AS payments, sum(amount) AS paid
    FROM shop.fact_payments
    GROUP BY order_number
) p ON p.order_number = s.order_number
ORDER BY s.net DESC, s.order_number
LIMIT 100
