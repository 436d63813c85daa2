-- Bought in a store, brought back, bought again by catalogue: three facts, after TPC-DS 17 and 29.
SELECT i_item_id,
       s_store_id,
       count(*) AS bought,
       sum(ss_quantity) AS store_quantity,
       sum(sr_return_quantity) AS return_quantity,
       sum(cs_quantity) AS catalog_quantity
FROM tpcds.store_sales
JOIN tpcds.store_returns
  ON sr_customer_sk = ss_customer_sk AND sr_item_sk = ss_item_sk AND sr_ticket_number = ss_ticket_number
JOIN tpcds.catalog_sales ON cs_bill_customer_sk = sr_customer_sk AND cs_item_sk = sr_item_sk
JOIN tpcds.item ON i_item_sk = ss_item_sk
JOIN tpcds.store ON s_store_sk = ss_store_sk
GROUP BY i_item_id, s_store_id
ORDER BY i_item_id, s_store_id
LIMIT 100
