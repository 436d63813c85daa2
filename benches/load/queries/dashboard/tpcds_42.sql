-- TPC-DS 42: Categories of one manager in one November.
-- NULLs are placed by name: the engines place them differently by themselves.
SELECT dt.d_year,
       item.i_category_id,
       item.i_category,
       sum(ss_ext_sales_price) AS total
FROM tpcds.date_dim dt,
     tpcds.store_sales,
     tpcds.item
WHERE dt.d_date_sk = store_sales.ss_sold_date_sk
  AND store_sales.ss_item_sk = item.i_item_sk
  AND item.i_manager_id = 1
  AND dt.d_moy=11
  AND dt.d_year=2000
GROUP BY dt.d_year,
         item.i_category_id,
         item.i_category
ORDER BY total DESC NULLS LAST,
         dt.d_year,
         item.i_category_id NULLS LAST,
         item.i_category NULLS LAST
LIMIT 100
