-- Items whose stock swings, by warehouse and month: the largest table, after TPC-DS 39.
SELECT w_warehouse_sk,
       i_item_sk,
       d_moy,
       avg(CAST(inv_quantity_on_hand AS DOUBLE)) AS mean,
       count(*) AS counts,
       min(inv_quantity_on_hand) AS low,
       max(inv_quantity_on_hand) AS high
FROM tpcds.inventory
JOIN tpcds.item ON i_item_sk = inv_item_sk
JOIN tpcds.warehouse ON w_warehouse_sk = inv_warehouse_sk
JOIN tpcds.date_dim ON d_date_sk = inv_date_sk
WHERE d_year IN (1999, 2000, 2001)
GROUP BY w_warehouse_sk, i_item_sk, d_moy
ORDER BY high - low DESC NULLS LAST, w_warehouse_sk, i_item_sk, d_moy
LIMIT 100
