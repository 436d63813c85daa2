SELECT category, rank, product_id, product_name, profit
FROM (
    SELECT p.category,
           p.product_id,
           p.product_name,
           sum(f.extended_sales_amount - f.extended_discount_amount) AS profit,
           row_number() OVER (
               PARTITION BY p.category
               ORDER BY sum(f.extended_sales_amount - f.extended_discount_amount) DESC, p.product_id
           ) AS rank
    FROM shop.fact_sales f
    JOIN shop.dim_products p ON p.product_key = f.product_key
    GROUP BY p.category, p.product_id, p.product_name
) ranked
WHERE rank <= 5
ORDER BY category, rank;
