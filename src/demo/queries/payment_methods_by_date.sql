SELECT m.payment_method,
       count(*) AS payments,
       sum(f.amount) AS amount,
       round(100.0 * count(*) / sum(count(*)) OVER (), 2) AS percent_of_payments
FROM shop.fact_payments f
JOIN shop.dim_payments m ON m.payment_key = f.payment_key
JOIN shop.dim_dates d ON d.date_key = f.date_key
WHERE d.year = 2023 AND d.is_weekend
GROUP BY m.payment_method
ORDER BY amount DESC, m.payment_method;
