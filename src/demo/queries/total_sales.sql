SELECT count(*) AS items,
       sum(f.extended_sales_amount) AS total_sales,
       sum(f.extended_sales_amount - f.extended_discount_amount) AS profit
FROM shop.fact_sales f;
