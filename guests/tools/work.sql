-- A fixed piece of work for SQLite: bulk insertion, indexes, joins, aggregates, updates, text.
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, price INTEGER, name TEXT);
CREATE TABLE sale(id INTEGER PRIMARY KEY, item INTEGER, count INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
INSERT INTO item SELECT i, i * 7919 % 97, i * 104729 % 1000, 'item ' || (i * 31 % 1009) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
INSERT INTO sale SELECT i, i * 6007 % 6000 + 1, i % 5 + 1 FROM n;
COMMIT;
CREATE INDEX item_kind ON item(kind);
CREATE INDEX item_name ON item(name);
CREATE INDEX sale_item ON sale(item);
SELECT kind, sum(price * count) AS money FROM sale JOIN item ON item.id = sale.item
    GROUP BY kind ORDER BY money DESC, kind LIMIT 3;
SELECT count(*) FROM item WHERE name LIKE '%9';
UPDATE item SET price = price + (SELECT sum(count) FROM sale WHERE sale.item = item.id) WHERE kind < 50;
SELECT sum(price), max(length(name)) FROM item;
DELETE FROM sale WHERE item IN (SELECT id FROM item WHERE kind > 80);
SELECT count(*), sum(count) FROM sale;
SELECT name, count(*) FROM item GROUP BY name HAVING count(*) > 5 ORDER BY name LIMIT 3;
