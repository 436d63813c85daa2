-- TPC-DS 7: Averages of items sold to one kind of customer by a promotion.
-- Averages are of doubles, so that every engine gives as many digits.
SELECT i_item_id,
       avg(CAST(ss_quantity AS DOUBLE)) agg1,
       avg(CAST(ss_list_price AS DOUBLE)) agg2,
       avg(CAST(ss_coupon_amt AS DOUBLE)) agg3,
       avg(CAST(ss_sales_price AS DOUBLE)) agg4
FROM tpcds.store_sales,
     tpcds.customer_demographics,
     tpcds.date_dim,
     tpcds.item,
     tpcds.promotion
WHERE ss_sold_date_sk = d_date_sk
  AND ss_item_sk = i_item_sk
  AND ss_cdemo_sk = cd_demo_sk
  AND ss_promo_sk = p_promo_sk
  AND cd_gender = 'M'
  AND cd_marital_status = 'S'
  AND cd_education_status = 'College'
  AND (p_channel_email = 'N'
       OR p_channel_event = 'N')
  AND d_year = 2000
GROUP BY i_item_id
ORDER BY i_item_id
LIMIT 100
