-- TPC-DS 27: Averages by item and state, with both sums above them.
-- Averages are of doubles; the order is complete, since two rows with NULLs are alike without `g_state`.
WITH results AS
  (SELECT i_item_id,
          s_state,
          0 AS g_state,
          ss_quantity agg1,
          ss_list_price agg2,
          ss_coupon_amt agg3,
          ss_sales_price agg4
   FROM tpcds.store_sales,
        tpcds.customer_demographics,
        tpcds.date_dim,
        tpcds.store,
        tpcds.item
   WHERE ss_sold_date_sk = d_date_sk
     AND ss_item_sk = i_item_sk
     AND ss_store_sk = s_store_sk
     AND ss_cdemo_sk = cd_demo_sk
     AND cd_gender = 'M'
     AND cd_marital_status = 'S'
     AND cd_education_status = 'College'
     AND d_year = 2002
     AND s_state = 'TN' )
SELECT i_item_id,
       s_state,
       g_state,
       agg1,
       agg2,
       agg3,
       agg4
FROM
  ( SELECT i_item_id,
           s_state,
           0 AS g_state,
           avg(CAST(agg1 AS DOUBLE)) agg1,
           avg(CAST(agg2 AS DOUBLE)) agg2,
           avg(CAST(agg3 AS DOUBLE)) agg3,
           avg(CAST(agg4 AS DOUBLE)) agg4
   FROM results
   GROUP BY i_item_id ,
            s_state
   UNION ALL SELECT i_item_id,
                    NULL AS s_state,
                    1 AS g_state,
                    avg(CAST(agg1 AS DOUBLE)) agg1,
                    avg(CAST(agg2 AS DOUBLE)) agg2,
                    avg(CAST(agg3 AS DOUBLE)) agg3,
                    avg(CAST(agg4 AS DOUBLE)) agg4
   FROM results
   GROUP BY i_item_id
   UNION ALL SELECT NULL AS i_item_id,
                    NULL AS s_state,
                    1 AS g_state,
                    avg(CAST(agg1 AS DOUBLE)) agg1,
                    avg(CAST(agg2 AS DOUBLE)) agg2,
                    avg(CAST(agg3 AS DOUBLE)) agg3,
                    avg(CAST(agg4 AS DOUBLE)) agg4
   FROM results ) foo
ORDER BY i_item_id NULLS FIRST,
         s_state NULLS FIRST,
         g_state
LIMIT 100
