-- Days between two orders of a customer, by segment: a window over every order.
-- A day is a number here, since engines subtract dates to different types.
SELECT c.segment, count(*) AS gaps, avg(CAST(g.gap AS DOUBLE)) AS average_gap, max(g.gap) AS longest
FROM (
    SELECT customer_key,
           date_key,
           day - lag(day) OVER (PARTITION BY customer_key ORDER BY day) AS gap
    FROM (
        SELECT DISTINCT f.customer_key, f.date_key, d.year * 366 + d.day_of_year AS day
        FROM shop.fact_sales f
        JOIN shop.dim_dates d ON d.date_key = f.date_key
    ) days
) g
JOIN shop.dim_customers c ON c.customer_key = g.customer_key
WHERE g.gap IS NOT NULL
GROUP BY c.segment
ORDER BY c.segment
