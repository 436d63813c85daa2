-- TPC-DS 89: Months of brands in stores that are off their average.
-- Averages are of doubles; the difference that orders rows is rounded.
SELECT * from
  (SELECT i_category, i_class, i_brand, s_store_name, s_company_name, d_moy, sum(ss_sales_price) sum_sales, avg(CAST(sum(ss_sales_price) AS DOUBLE)) OVER (PARTITION BY i_category, i_brand, s_store_name, s_company_name) avg_monthly_sales
   FROM tpcds.item, tpcds.store_sales, tpcds.date_dim, tpcds.store
   WHERE ss_item_sk = i_item_sk
     AND ss_sold_date_sk = d_date_sk
     AND ss_store_sk = s_store_sk
     AND d_year = 1999
     AND ((i_category IN ('Books','Electronics','Sports')
           AND i_class IN ('computers','stereo','football') )
          OR (i_category IN ('Men','Jewelry','Women')
              AND i_class IN ('shirts','birdal','dresses')))
   GROUP BY i_category, i_class, i_brand, s_store_name, s_company_name, d_moy) tmp1
WHERE CASE
          WHEN (avg_monthly_sales <> 0) THEN (abs(CAST(sum_sales AS DOUBLE) - avg_monthly_sales) / avg_monthly_sales)
          ELSE NULL
      END > 0.1
ORDER BY round(CAST(sum_sales AS DOUBLE) - avg_monthly_sales, 4),
         s_store_name, i_category, i_class, i_brand, s_company_name, d_moy
LIMIT 100
