-- TPC-DS 98: Share of items in the revenue of their class.
-- The share is of doubles, so that every engine gives as many digits.
SELECT i_item_id ,
       i_item_desc,
       i_category,
       i_class,
       i_current_price ,
       sum(ss_ext_sales_price) AS itemrevenue,
       CAST(sum(ss_ext_sales_price) AS DOUBLE) * 100 / CAST(sum(sum(ss_ext_sales_price)) OVER (PARTITION BY i_class) AS DOUBLE) AS revenueratio
FROM tpcds.store_sales ,
     tpcds.item,
     tpcds.date_dim
WHERE ss_item_sk = i_item_sk
  AND i_category IN ('Sports',
                     'Books',
                     'Home')
  AND ss_sold_date_sk = d_date_sk
  AND d_date BETWEEN cast('1999-02-22' AS date) AND cast('1999-03-24' AS date)
GROUP BY i_item_id ,
         i_item_desc,
         i_category ,
         i_class ,
         i_current_price
ORDER BY i_category  NULLS FIRST,
         i_class  NULLS FIRST,
         i_item_id  NULLS FIRST,
         i_item_desc  NULLS FIRST,
         revenueratio NULLS FIRST
