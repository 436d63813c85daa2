-- Customers by what they spend in all three channels, and the items that they share.
SELECT c_customer_id,
       count(DISTINCT channel) AS channels,
       count(DISTINCT item_sk) AS items,
       sum(amount) AS spent
FROM (
    SELECT 'store' AS channel, ss_customer_sk AS customer_sk, ss_item_sk AS item_sk, ss_ext_sales_price AS amount
    FROM tpcds.store_sales
    UNION ALL
    SELECT 'catalog', cs_bill_customer_sk, cs_item_sk, cs_ext_sales_price FROM tpcds.catalog_sales
    UNION ALL
    SELECT 'web', ws_bill_customer_sk, ws_item_sk, ws_ext_sales_price FROM tpcds.web_sales
) sales
JOIN tpcds.customer ON c_customer_sk = customer_sk
GROUP BY c_customer_id
ORDER BY spent DESC NULLS LAST, c_customer_id
LIMIT 100
